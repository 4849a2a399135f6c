import { parseFrame, parseSession, type Frame, type Session } from './session'

const ATTEMPTS = 5
const STABLE_MS = 10_000
const PING_EVERY_MS = 25_000
const PONG_WITHIN_MS = 8_000
const CLOSED_NORMALLY = 1000
const NOT_FOUND = 4001
/** Final by the contract: coming back would be refused again. */
const FINAL = new Set([1008, 4003, 4009])
const DEFAULT_RETRY_AFTER_S = 30

export type Answer =
  | { kind: 'session'; session: Session }
  | { kind: 'not_found' }
  | { kind: 'ended' }
  | { kind: 'busy'; retryAfterS: number }
  | { kind: 'unreachable' }

export interface Listener {
  connection(connection: 'connecting' | 'open' | 'reconnecting' | 'lost' | 'offline'): void
  session(session: Session): void
  frame(frame: Frame): void
  ended(): void
  notFound(): void
  busy(retryAfterS: number): void
}

export interface Surroundings {
  fetchSession(): Promise<Answer>
  openSocket(): WebSocket
  random(): number
  online(): boolean
  firstDelayMs: number
}

/**
 * Keeps one live socket: five attempts with full steps of 1, 2, 4, 8 and 16 times the first delay (jittered), a count
 * that only ten stable seconds reset (so that a flapping socket does not try for ever), a ping with a watchdog, and a
 * REST request before each attempt, because a refused handshake shows a browser nothing but 1006.
 */
export class Live {
  private socket: WebSocket | null = null
  private attempts = 0
  private generation = 0
  private stopped = false
  private doubted = false
  private retryTimer: ReturnType<typeof setTimeout> | undefined
  private stableTimer: ReturnType<typeof setTimeout> | undefined
  private pingTimer: ReturnType<typeof setInterval> | undefined
  private pongTimer: ReturnType<typeof setTimeout> | undefined

  constructor(
    private readonly listener: Listener,
    private readonly around: Surroundings,
  ) {}

  /** First visit: text by REST and the socket at the same time, since both are needed at once. */
  start(): void {
    this.listener.connection('connecting')
    const generation = ++this.generation
    this.connect(generation)
    void this.refresh(generation)
  }

  /** "Try again", and the end of a busy card. */
  restart(): void {
    if (this.stopped) return
    this.attempts = 0
    this.listener.connection('reconnecting')
    void this.reconnect()
  }

  /** The tab came back, or the network did: a closed socket is opened at once, an open one is probed (iOS keeps dead sockets open). */
  wake(): void {
    if (this.stopped) return
    if (this.socket?.readyState === WebSocket.OPEN) {
      this.ping()
    } else if (this.socket?.readyState !== WebSocket.CONNECTING) {
      this.attempts = 0
      this.listener.connection('reconnecting')
      void this.reconnect()
    }
  }

  /** Asks REST for what live frames do not carry. */
  reread(): void {
    if (!this.stopped) void this.refresh(this.generation)
  }

  /** The device says that it has no network; whatever arrives afterwards proves that it has. */
  offline(): void {
    if (this.stopped) return
    this.doubted = true
    this.listener.connection('offline')
  }

  /** Final: no timer, no socket, no further request. */
  stop(): void {
    this.stopped = true
    this.drop()
  }

  /** Asks REST. 'go' and 'retry' leave the next step to the caller; 'halt' means that it was taken here. */
  private async refresh(generation: number): Promise<'go' | 'retry' | 'halt'> {
    const answer = await this.around.fetchSession()
    if (this.stopped || generation !== this.generation) return 'halt'
    switch (answer.kind) {
      case 'session':
        this.listener.session(answer.session)
        return 'go'
      case 'not_found':
        this.finish(() => this.listener.notFound())
        return 'halt'
      case 'ended':
        this.finish(() => this.listener.ended())
        return 'halt'
      case 'busy':
        this.drop()
        this.listener.busy(answer.retryAfterS)
        return 'halt'
      case 'unreachable':
        return 'retry'
    }
  }

  private async reconnect(): Promise<void> {
    this.drop()
    const generation = ++this.generation
    const outcome = await this.refresh(generation)
    if (outcome === 'go') this.connect(generation)
    else if (outcome === 'retry') this.later()
  }

  private connect(generation: number): void {
    const socket = this.around.openSocket()
    this.socket = socket
    const current = (): boolean => !this.stopped && generation === this.generation && this.socket === socket
    socket.onopen = () => {
      if (!current()) return
      this.doubted = false
      this.listener.connection('open')
      this.stableTimer = setTimeout(() => (this.attempts = 0), STABLE_MS)
      this.pingTimer = setInterval(() => this.ping(), PING_EVERY_MS)
    }
    socket.onmessage = (event: MessageEvent) => {
      if (!current() || typeof event.data !== 'string') return
      clearTimeout(this.pongTimer)
      this.pongTimer = undefined
      if (this.doubted) {
        this.doubted = false
        this.listener.connection('open')
      }
      const frame = parseFrame(event.data)
      if (frame === null) return
      if (frame.type === 'session_ended') this.finish(() => this.listener.frame(frame))
      else this.listener.frame(frame)
      if (frame.type === 'session_updated' && frame.session === null) void this.refresh(generation)
    }
    socket.onclose = (event: CloseEvent) => {
      if (!current()) return
      this.drop()
      if (event.code === NOT_FOUND) this.finish(() => this.listener.notFound())
      else if (FINAL.has(event.code)) this.listener.connection('lost')
      else if (event.code === CLOSED_NORMALLY) void this.reconnect()
      else this.later()
    }
  }

  private later(): void {
    if (this.attempts >= ATTEMPTS) {
      this.listener.connection('lost')
      return
    }
    this.listener.connection(this.around.online() ? 'reconnecting' : 'offline')
    const delayMs = this.around.firstDelayMs * 2 ** this.attempts * (0.5 + this.around.random() / 2)
    this.attempts += 1
    this.retryTimer = setTimeout(() => void this.reconnect(), delayMs)
  }

  private ping(): void {
    if (this.socket?.readyState !== WebSocket.OPEN || this.pongTimer !== undefined) return
    this.socket.send('{"type":"ping"}')
    const generation = this.generation
    this.pongTimer = setTimeout(() => {
      if (this.stopped || generation !== this.generation) return
      this.drop()
      this.later()
    }, PONG_WITHIN_MS)
  }

  private finish(tell: () => void): void {
    this.stop()
    tell()
  }

  private drop(): void {
    clearTimeout(this.retryTimer)
    clearTimeout(this.stableTimer)
    clearTimeout(this.pongTimer)
    clearInterval(this.pingTimer)
    this.pongTimer = undefined
    const socket = this.socket
    this.socket = null
    if (socket !== null) {
      socket.onopen = socket.onmessage = socket.onclose = null
      socket.close()
    }
  }
}

/** One REST request, every outcome a value. */
export async function fetchSession(url: string): Promise<Answer> {
  let response: Response
  try {
    response = await fetch(url, { headers: { Accept: 'application/json' }, cache: 'no-store', credentials: 'omit' })
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    return { kind: 'unreachable' } // fetch says so of every network failure
  }
  if (response.status === 404) return { kind: 'not_found' }
  if (response.status === 410) return { kind: 'ended' }
  if (response.status === 429) {
    const seconds = Number(response.headers.get('Retry-After'))
    return { kind: 'busy', retryAfterS: seconds > 0 ? seconds : DEFAULT_RETRY_AFTER_S }
  }
  if (!response.ok) return { kind: 'unreachable' }
  return { kind: 'session', session: parseSession(await response.json()) }
}
