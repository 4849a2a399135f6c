import { describe, expect, it } from 'vitest'
import { parseFrame, parseSession } from '../src/share/session'
import { etaSeconds, initial, isStale, reduce, type Happening, type State } from '../src/share/state'

const T0 = 1_776_000_000

export const answer = (more: Record<string, unknown> = {}): Record<string, unknown> => ({
  status: 'active',
  driver: { latitude: 60.17, longitude: 24.94, heading: 90, speed: 12.5 },
  destination: { latitude: 60.176, longitude: 24.946, label: 'Siltasaarenkatu 4' },
  eta_seconds: 840,
  order_id: 'ORD-1',
  recipient_name: 'Jane',
  notes: 'Your package is on the way!',
  driver_display_name: 'John Smith',
  last_updated: T0,
  stale: false,
  stale_after: 60,
  age_seconds: 0,
  stage: 'live',
  stage_at: null,
  expires_at: T0 + 3600,
  server_time: T0,
  update_interval_seconds: 5,
  brand: { name: 'Northwind', color: '#1a5cff' },
  ...more,
})
const frame = (more: Record<string, unknown> = {}): Happening => ({
  type: 'frame',
  localMs: T0 * 1000,
  frame: parseFrame(JSON.stringify({ type: 'position', latitude: 60.171, longitude: 24.94, heading: 95, speed: 11, driver_display_name: 'John Smith', eta_seconds: 800, timestamp: T0 + 5, stale: false, stale_after: 60, stage: 'live', ...more }))!,
})
const session = (more: Record<string, unknown> = {}): Happening => ({ type: 'session', session: parseSession(answer(more)), localMs: T0 * 1000 })
const after = (...happenings: Happening[]): State => happenings.reduce(reduce, initial(0))

describe('the state', () => {
  it('takes newer fixes and ignores older ones', () => {
    const state = after(session(), frame(), frame({ timestamp: T0 + 1, latitude: 1 }))
    expect(state.session?.fix?.latitude).toBe(60.171)
    expect(state.session?.fix?.timestamp).toBe(T0 + 5)
  })

  it('does not let a slow REST answer move the marker back', () => {
    const state = after(session(), frame(), session({ notes: 'Ring twice.' }))
    expect(state.session?.fix?.timestamp).toBe(T0 + 5)
    expect(state.session?.notes).toBe('Ring twice.')
  })

  it('waits for the whole session before it shows a part of it', () => {
    expect(after(frame()).session).toBeNull()
  })

  it('counts the arrival down from the time of the fix and never below zero', () => {
    const state = after(session())
    expect(etaSeconds(state, T0 * 1000 + 30_000)).toBe(810)
    expect(etaSeconds(after(session({ eta_seconds: 20 })), T0 * 1000 + 50_000)).toBe(0)
  })

  it('does not restart the countdown when the same fix comes again', () => {
    const state = after(session(), frame({ timestamp: T0, eta_seconds: 840 }))
    expect(etaSeconds(state, T0 * 1000 + 30_000)).toBe(810)
  })

  it('corrects a wrong clock of the phone by the time of the server', () => {
    const late = reduce(initial(0), { type: 'session', session: parseSession(answer()), localMs: (T0 + 3600) * 1000 })
    expect(late.skewMs).toBe(-3_600_000)
  })

  it('is stale after the age that the source has, and then has no arrival time', () => {
    const state = after(session({ stale_after: 20 }))
    expect(isStale(state, (T0 + 20) * 1000)).toBe(false)
    expect(isStale(state, (T0 + 21) * 1000)).toBe(true)
    expect(etaSeconds(state, (T0 + 21) * 1000)).toBeNull()
    expect(isStale(after(session({ stale_after: 600 })), (T0 + 300) * 1000)).toBe(false)
  })

  it('comes back from stale with the next fix', () => {
    const state = after(session({ stale: true }), frame())
    expect(isStale(state, (T0 + 6) * 1000)).toBe(false)
  })

  it('forgets everything personal when the session ends, and nothing follows an end', () => {
    const ended = after(session(), { type: 'frame', frame: { type: 'session_ended', reason: 'completed' }, localMs: 0 })
    expect(ended.session).toBeNull()
    expect(ended.eta).toBeNull()
    expect(ended.card).toEqual({ kind: 'ended', reason: 'completed' })
    expect(reduce(ended, frame())).toBe(ended)
    expect(reduce(ended, { type: 'card', card: null })).toBe(ended)
  })

  it('hides the place when the source stops sharing', () => {
    const state = after(session(), { type: 'frame', frame: { type: 'status', stage: 'not_sharing' }, localMs: 0 })
    expect(state.session?.fix).toBeNull()
    expect(state.session?.stage).toBe('not_sharing')
  })

  it('keeps the last place of a trip that ended', () => {
    const state = after(session(), { type: 'frame', frame: { type: 'status', stage: 'trip_ended' }, localMs: 0 })
    expect(state.session?.fix).not.toBeNull()
  })
})

describe('parsing', () => {
  it('takes hidden and unknown values as null and a missing driver as waiting', () => {
    const parsed = parseSession(answer({ driver: null, last_updated: null, eta_seconds: null, destination: null, stage: undefined }))
    expect(parsed.fix).toBeNull()
    expect(parsed.stage).toBe('waiting')
    expect(parseSession(answer({ driver: { latitude: 1, longitude: 2, heading: null, speed: null } })).fix?.speed).toBeNull()
  })

  it('refuses places that are none', () => {
    expect(parseFrame('{"type":"position","latitude":91,"longitude":0,"timestamp":1}')).toBeNull()
    expect(parseFrame('{"type":"position","latitude":"60","longitude":0,"timestamp":1}')).toBeNull()
  })

  it('skips frames it does not know', () => {
    expect(parseFrame('{"type":"new_thing"}')).toBeNull()
  })
})
