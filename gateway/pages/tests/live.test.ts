// @vitest-environment jsdom
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Live, type Answer, type Listener } from '../src/share/live'
import { parseSession } from '../src/share/session'
import { answer } from './state.test'

const OK: Answer = { kind: 'session', session: parseSession(answer()) }

class FakeSocket {
  static all: FakeSocket[] = []
  readyState: number = WebSocket.CONNECTING
  sent: string[] = []
  onopen: (() => void) | null = null
  onmessage: ((event: { data: string }) => void) | null = null
  onclose: ((event: { code: number }) => void) | null = null

  constructor() {
    FakeSocket.all.push(this)
  }
  opens(): void {
    this.readyState = WebSocket.OPEN
    this.onopen?.()
  }
  says(value: unknown): void {
    this.onmessage?.({ data: JSON.stringify(value) })
  }
  closes(code: number): void {
    this.readyState = WebSocket.CLOSED
    this.onclose?.({ code })
  }
  send(text: string): void {
    this.sent.push(text)
  }
  close(): void {
    this.readyState = WebSocket.CLOSED
  }
}

function setUp(): { live: Live; said: string[]; rest: { next: Answer; asked: number } } {
  const said: string[] = []
  const rest = { next: OK, asked: 0 }
  const listener: Listener = {
    connection: (connection) => said.push(connection),
    session: () => said.push('session'),
    frame: (frame) => said.push(frame.type),
    ended: () => said.push('ended'),
    notFound: () => said.push('not_found'),
    busy: (seconds) => said.push(`busy ${seconds}`),
  }
  const live = new Live(listener, {
    fetchSession: async () => {
      rest.asked += 1
      return rest.next
    },
    openSocket: () => new FakeSocket() as unknown as WebSocket,
    random: () => 1,
    online: () => true,
    firstDelayMs: 1000,
  })
  return { live, said, rest }
}
const last = (): FakeSocket => FakeSocket.all.at(-1)!

beforeEach(() => {
  vi.useFakeTimers()
  FakeSocket.all = []
})
afterEach(() => vi.useRealTimers())

describe('the live link', () => {
  it('asks REST and opens the socket at once', async () => {
    const { live, said } = setUp()
    live.start()
    await vi.advanceTimersByTimeAsync(0)
    last().opens()
    expect(said).toEqual(['connecting', 'session', 'open'])
  })

  it('tries five times at 1, 2, 4, 8 and 16 s and then gives up', async () => {
    const { live, said } = setUp()
    live.start()
    await vi.advanceTimersByTimeAsync(0)
    last().closes(1006)
    for (const delay of [1000, 2000, 4000, 8000, 16_000]) {
      const before = FakeSocket.all.length
      await vi.advanceTimersByTimeAsync(delay - 1)
      expect(FakeSocket.all.length).toBe(before)
      await vi.advanceTimersByTimeAsync(1)
      expect(FakeSocket.all.length).toBe(before + 1)
      last().closes(1006)
    }
    expect(said.at(-1)).toBe('lost')
    await vi.advanceTimersByTimeAsync(600_000)
    expect(FakeSocket.all.length).toBe(6)
  })

  it('does not let a flapping socket reset the count', async () => {
    const { live, said } = setUp()
    live.start()
    await vi.advanceTimersByTimeAsync(0)
    for (let i = 0; i < 6; i++) {
      last().opens()
      await vi.advanceTimersByTimeAsync(5000)
      last().closes(1006)
      await vi.advanceTimersByTimeAsync(16_000)
    }
    expect(said.at(-1)).toBe('lost')
  })

  it('counts anew after ten stable seconds', async () => {
    const { live } = setUp()
    live.start()
    await vi.advanceTimersByTimeAsync(0)
    for (let i = 0; i < 8; i++) {
      last().opens()
      await vi.advanceTimersByTimeAsync(10_000)
      last().closes(1006)
      await vi.advanceTimersByTimeAsync(1000)
    }
    expect(FakeSocket.all.length).toBe(9)
  })

  it('recovers by "Try again"', async () => {
    const { live, said } = setUp()
    live.start()
    await vi.advanceTimersByTimeAsync(0)
    last().closes(1006)
    for (let i = 0; i < 5; i++) {
      await vi.advanceTimersByTimeAsync(16_000)
      last().closes(1006)
    }
    live.restart()
    await vi.advanceTimersByTimeAsync(0)
    last().opens()
    expect(said.at(-1)).toBe('open')
  })

  it('takes close 4001 as not found and opens nothing more', async () => {
    const { live, said } = setUp()
    live.start()
    await vi.advanceTimersByTimeAsync(0)
    last().closes(4001)
    await vi.advanceTimersByTimeAsync(60_000)
    expect(said.at(-1)).toBe('not_found')
    expect(FakeSocket.all.length).toBe(1)
  })

  it.each([
    [{ kind: 'not_found' } as const, 'not_found'],
    [{ kind: 'ended' } as const, 'ended'],
    [{ kind: 'busy', retryAfterS: 7 } as const, 'busy 7'],
  ])('learns %o by REST while it reconnects', async (next, expected) => {
    const { live, said, rest } = setUp()
    live.start()
    await vi.advanceTimersByTimeAsync(0)
    rest.next = next
    last().closes(1006)
    await vi.advanceTimersByTimeAsync(1000)
    expect(said.at(-1)).toBe(expected)
    await vi.advanceTimersByTimeAsync(60_000)
    expect(FakeSocket.all.length).toBe(1)
  })

  it('stops for good when the session ends', async () => {
    const { live, said } = setUp()
    live.start()
    await vi.advanceTimersByTimeAsync(0)
    last().opens()
    last().says({ type: 'session_ended', reason: 'completed' })
    live.wake()
    live.restart()
    await vi.advanceTimersByTimeAsync(60_000)
    expect(said.at(-1)).toBe('session_ended')
    expect(FakeSocket.all.length).toBe(1)
  })

  it('reconnects when a ping stays unanswered for 8 s', async () => {
    const { live, said } = setUp()
    live.start()
    await vi.advanceTimersByTimeAsync(0)
    last().opens()
    await vi.advanceTimersByTimeAsync(25_000)
    expect(last().sent).toEqual(['{"type":"ping"}'])
    await vi.advanceTimersByTimeAsync(8000)
    expect(said.at(-1)).toBe('reconnecting')
  })

  it('lets any frame answer a ping', async () => {
    const { live, said } = setUp()
    live.start()
    await vi.advanceTimersByTimeAsync(0)
    last().opens()
    await vi.advanceTimersByTimeAsync(25_000)
    last().says({ type: 'pong' })
    await vi.advanceTimersByTimeAsync(8000)
    expect(said.at(-1)).toBe('pong')
  })

  it('probes an open socket when the tab comes back, and opens a closed one at once', async () => {
    const { live } = setUp()
    live.start()
    await vi.advanceTimersByTimeAsync(0)
    last().opens()
    live.wake()
    expect(last().sent).toEqual(['{"type":"ping"}'])
    last().closes(1006)
    live.wake()
    await vi.advanceTimersByTimeAsync(0)
    expect(FakeSocket.all.length).toBe(2)
  })

  it('believes an open socket again after the device was offline', async () => {
    const { live, said } = setUp()
    live.start()
    await vi.advanceTimersByTimeAsync(0)
    last().opens()
    live.offline()
    expect(said.at(-1)).toBe('offline')
    live.wake()
    last().says({ type: 'pong' })
    expect(said.slice(-2)).toEqual(['open', 'pong'])
  })

  it.each([1008, 4003, 4009])('does not come back after close %i', async (code) => {
    const { live, said } = setUp()
    live.start()
    await vi.advanceTimersByTimeAsync(0)
    last().closes(code)
    await vi.advanceTimersByTimeAsync(600_000)
    expect(said.at(-1)).toBe('lost')
    expect(FakeSocket.all.length).toBe(1)
  })
})
