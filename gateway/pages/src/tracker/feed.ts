import { fixOf, record, type FleetFix, type TokenSource } from './api'

const FIRST_DELAY_MS = 1000
const LONGEST_DELAY_MS = 30_000
const PING_EVERY_MS = 25_000
const SILENCE_MS = 75_000
/** The gateway pings every 30 s, so a longer silence is a dead socket. */
const CREDENTIALS = 4001
const FINAL = new Set([1008, 4003, 4009])

export type FeedState = 'connecting' | 'live' | 'reconnecting' | 'expired' | 'forbidden'

export interface FeedListener {
  state(state: FeedState): void
  position(token: string, name: string | null, fix: FleetFix): void
}

/** The tenant's stream (`/ws/realtime`, the dialect that the key `jwt` selects). Comes back by itself, with back-off. */
export class Feed {
  private socket: WebSocket | null = null
  private attempts = 0
  private refused = false
  private stopped = true
  private retryTimer: ReturnType<typeof setTimeout> | undefined
  private pingTimer: ReturnType<typeof setInterval> | undefined
  private heardAt = 0

  constructor(
    private readonly url: string,
    private readonly instanceId: string,
    private readonly token: TokenSource,
    private readonly listener: FeedListener,
  ) {}

  start(): void {
    this.stop()
    this.stopped = false
    this.attempts = 0
    this.refused = false
    this.listener.state('connecting')
    void this.connect()
  }

  stop(): void {
    this.stopped = true
    this.drop()
  }

  /** The tab came back, or the network did. */
  wake(): void {
    if (this.stopped) return
    if (this.socket === null || performance.now() - this.heardAt > SILENCE_MS) {
      this.drop()
      void this.connect()
    }
  }

  private async connect(): Promise<void> {
    const jwt = await this.token(this.refused)
    if (this.stopped || this.socket !== null) return
    if (jwt === null) {
      this.stopped = true
      this.listener.state('expired')
      return
    }
    const socket = new WebSocket(this.url)
    this.socket = socket
    this.heardAt = performance.now()
    socket.onopen = () => {
      socket.send(JSON.stringify({ type: 'authenticate', jwt, instance_id: this.instanceId, units: 'metric', timezone: 'UTC', date_format: 'unix' }))
    }
    socket.onmessage = (event: MessageEvent) => {
      this.heardAt = performance.now()
      if (typeof event.data === 'string') this.take(socket, event.data)
    }
    socket.onclose = (event: CloseEvent) => this.closed(event.code)
    this.pingTimer = setInterval(() => this.probe(), PING_EVERY_MS)
  }

  private take(socket: WebSocket, text: string): void {
    const json = record(JSON.parse(text))
    switch (json['type']) {
      case 'welcome':
        this.attempts = 0
        this.refused = false
        this.listener.state('live')
        break
      case 'position': {
        const fix = fixOf(json['Lat'], json['Lng'], json['Speed'], json['Heading'], json['Timestamp'])
        const name = typeof json['DisplayIdentifier'] === 'string' ? json['DisplayIdentifier'] : null
        if (fix !== null) this.listener.position(String(json['DeviceToken']), name, fix)
        break
      }
      case 'ping':
        socket.send('{"type":"pong"}')
        break
      default:
    }
  }

  private closed(code: number): void {
    this.drop()
    if (this.stopped) return
    if (code === CREDENTIALS && this.refused) {
      this.stopped = true
      this.listener.state('expired')
    } else if (FINAL.has(code)) {
      this.stopped = true
      this.listener.state('forbidden')
    } else {
      this.refused = code === CREDENTIALS
      this.listener.state('reconnecting')
      const delay = this.refused ? 0 : Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.attempts) * (0.5 + Math.random() / 2)
      this.attempts += 1
      this.retryTimer = setTimeout(() => void this.connect(), delay)
    }
  }

  private probe(): void {
    if (performance.now() - this.heardAt > SILENCE_MS) this.closed(1006)
    else if (this.socket?.readyState === WebSocket.OPEN) this.socket.send('{"type":"ping"}')
  }

  private drop(): void {
    clearTimeout(this.retryTimer)
    clearInterval(this.pingTimer)
    const socket = this.socket
    this.socket = null
    if (socket !== null) {
      socket.onopen = socket.onmessage = socket.onclose = null
      socket.close()
    }
  }
}
