import type { Place } from '../common/place'

export const STAGES = [
  'waiting',
  'not_sharing',
  'live',
  'en_route_to_pickup',
  'at_pickup',
  'on_trip',
  'arrived',
  'no_show',
  'trip_ended',
] as const
export type Stage = (typeof STAGES)[number]
export type EndReason = 'completed' | 'cancelled' | 'expired' | null

/** One fix as a viewer may see it; what the link hides is null. */
export interface Fix extends Place {
  heading: number | null
  /** m/s */
  speed: number | null
  /** unix seconds, when the fix was taken */
  timestamp: number
}

export interface Destination extends Place {
  label: string | null
}

/** The public session, as REST answers it and `session_updated` repeats it. */
export interface Session {
  fix: Fix | null
  destination: Destination | null
  etaSeconds: number | null
  orderId: string | null
  recipientName: string | null
  notes: string | null
  driverName: string | null
  stage: Stage
  stale: boolean
  staleAfterS: number
  intervalMs: number
  expiresAt: number | null
  serverTime: number | null
}

export type Frame =
  | { type: 'position'; fix: Fix; etaSeconds: number | null; driverName: string | null; stage: Stage | null; stale: boolean | null; staleAfterS: number | null }
  | { type: 'status'; stage: Stage }
  | { type: 'session_updated'; session: Session | null }
  | { type: 'session_ended'; reason: EndReason }
  | { type: 'pong' }

type Json = Record<string, unknown>

const DEFAULT_STALE_AFTER_S = 60
const DEFAULT_INTERVAL_S = 5

/** The answer of `GET /api/v1/share/{token}` (200). */
export function parseSession(body: unknown): Session {
  const json = record(body)
  const driver = json['driver'] === null || json['driver'] === undefined ? null : record(json['driver'])
  return {
    fix: driver === null ? null : fixOf(driver, numberOf(json['last_updated'])),
    destination: destinationOf(json['destination']),
    etaSeconds: numberOf(json['eta_seconds']),
    orderId: textOf(json['order_id']),
    recipientName: textOf(json['recipient_name']),
    notes: textOf(json['notes']),
    driverName: textOf(json['driver_display_name']),
    stage: stageOf(json['stage']) ?? (driver === null ? 'waiting' : 'live'),
    stale: json['stale'] === true,
    staleAfterS: numberOf(json['stale_after']) ?? DEFAULT_STALE_AFTER_S,
    intervalMs: (numberOf(json['update_interval_seconds']) ?? DEFAULT_INTERVAL_S) * 1000,
    expiresAt: numberOf(json['expires_at']),
    serverTime: numberOf(json['server_time']),
  }
}

/** One text frame of the live socket; null is a frame that this page does not know. */
export function parseFrame(text: string): Frame | null {
  const json = record(JSON.parse(text))
  switch (json['type']) {
    case 'position': {
      const fix = fixOf(json, numberOf(json['timestamp']))
      if (fix === null) return null
      return {
        type: 'position',
        fix,
        etaSeconds: numberOf(json['eta_seconds']),
        driverName: textOf(json['driver_display_name']),
        stage: stageOf(json['stage']),
        stale: typeof json['stale'] === 'boolean' ? json['stale'] : null,
        staleAfterS: numberOf(json['stale_after']),
      }
    }
    case 'status': {
      const stage = stageOf(json['stage'])
      return stage === null ? null : { type: 'status', stage }
    }
    case 'session_updated': {
      const inner = json['session'] ?? json
      return { type: 'session_updated', session: 'driver' in record(inner) ? parseSession(inner) : null }
    }
    case 'session_ended':
      return { type: 'session_ended', reason: reasonOf(json['reason']) }
    case 'pong':
      return { type: 'pong' }
    default:
      return null
  }
}

export function reasonOf(value: unknown): EndReason {
  return value === 'completed' || value === 'cancelled' || value === 'expired' ? value : null
}

function fixOf(json: Json, timestamp: number | null): Fix | null {
  const latitude = numberOf(json['latitude'])
  const longitude = numberOf(json['longitude'])
  if (latitude === null || longitude === null || timestamp === null) return null
  if (Math.abs(latitude) > 90 || Math.abs(longitude) > 180) return null
  return { latitude, longitude, timestamp, heading: numberOf(json['heading']), speed: numberOf(json['speed']) }
}

function destinationOf(value: unknown): Destination | null {
  if (value === null || value === undefined) return null
  const json = record(value)
  const latitude = numberOf(json['latitude'])
  const longitude = numberOf(json['longitude'])
  if (latitude === null || longitude === null) return null
  return { latitude, longitude, label: textOf(json['label']) }
}

function stageOf(value: unknown): Stage | null {
  return STAGES.find((stage) => stage === value) ?? null
}

function numberOf(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value.trim() !== '' ? value : null
}

function record(value: unknown): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new TypeError('expected an object')
  return value as Json
}
