import type { Place } from '../common/place'

/** Why a request could not be served, in the terms that the tracker speaks of. */
export type Refusal = 'expired' | 'forbidden' | 'busy' | 'limit' | 'invalid' | 'unreachable'

export class ApiError extends Error {
  constructor(
    readonly refusal: Refusal,
    readonly detail = '',
  ) {
    super(detail || refusal)
  }
}

export interface Link {
  id: string
  url: string
  recipient: string | null
  order: string | null
  expiresAt: number
}

export interface NewLink {
  deviceToken: string
  hours: number
  recipient: string
  order: string
  notes: string
  destination: (Place & { label: string }) | null
  show: { speed: boolean; heading: boolean; eta: boolean; destination: boolean }
}

export interface DeviceItem {
  token: string
  name: string
  online: boolean | null
  stale: boolean
  fix: FleetFix | null
}

export interface FleetFix extends Place {
  /** m/s */
  speed: number | null
  heading: number | null
  /** unix seconds */
  timestamp: number
}

/** Asked for a token each time one is needed; `fresh` means that the last one was refused. */
export type TokenSource = (fresh: boolean) => Promise<string | null>

type Json = Record<string, unknown>
const PAGE = 500
const MOST_DEVICES = 5000

/** The slice of the API that the tracker uses, the same that everybody has. */
export class Api {
  constructor(
    private readonly base: string,
    private readonly instanceId: string,
    private readonly token: TokenSource,
  ) {}

  get streamUrl(): string {
    return `${this.base.replace(/^http/, 'ws')}/api/v1/ws/realtime`
  }

  async devices(): Promise<DeviceItem[]> {
    const found: DeviceItem[] = []
    for (let offset = 0; offset < MOST_DEVICES; offset += PAGE) {
      const body = await this.call('GET', `/devices?${this.query({ limit: String(PAGE), offset: String(offset) })}`)
      const items = list(body['devices'])
      found.push(...items.map(deviceOf))
      if (items.length < PAGE) break
    }
    return found
  }

  async links(deviceToken: string): Promise<Link[]> {
    const query = this.query({ device_token: deviceToken, status: 'active', limit: String(PAGE) })
    return list((await this.call('GET', `/sharing/sessions?${query}`))['sessions']).map(linkOf)
  }

  async createLink(link: NewLink): Promise<Link> {
    const body: Json = {
      device_token: link.deviceToken,
      instance_id: this.instanceId,
      expires_in_hours: link.hours,
      share_config: {
        show_speed: link.show.speed,
        show_heading: link.show.heading,
        show_eta: link.show.eta,
        show_destination_on_map: link.show.destination,
      },
    }
    if (link.recipient !== '') body['recipient_name'] = link.recipient
    if (link.order !== '') body['order_id'] = link.order
    if (link.notes !== '') body['notes'] = link.notes
    if (link.destination !== null) {
      const { latitude, longitude, label } = link.destination
      body['destination'] = label === '' ? { latitude, longitude } : { latitude, longitude, label }
    }
    return linkOf(await this.call('POST', '/sharing/sessions', body))
  }

  async endLink(id: string): Promise<void> {
    await this.call('DELETE', `/sharing/sessions/${encodeURIComponent(id)}?${this.query({})}`)
  }

  private query(values: Record<string, string>): string {
    return new URLSearchParams({ instance_id: this.instanceId, ...values }).toString()
  }

  /** One request; a refused token is replaced once. Every failure is an ApiError. */
  private async call(method: string, path: string, body?: Json): Promise<Json> {
    let response = await this.send(method, path, await this.token(false), body)
    if (response.status === 401) response = await this.send(method, path, await this.token(true), body)
    if (response.ok) return record(await response.json())
    const problem = await problemOf(response)
    switch (response.status) {
      case 401:
        throw new ApiError('expired')
      case 403:
      case 404:
        throw new ApiError('forbidden', problem)
      case 409:
        throw new ApiError('limit', problem)
      case 422:
        throw new ApiError('invalid', problem)
      case 429:
        throw new ApiError('busy')
      default:
        throw new ApiError('unreachable', problem)
    }
  }

  private async send(method: string, path: string, token: string | null, body?: Json): Promise<Response> {
    if (token === null) throw new ApiError('expired')
    const headers: Record<string, string> = { Authorization: `Bearer ${token}`, Accept: 'application/json' }
    if (body !== undefined) headers['Content-Type'] = 'application/json'
    const options: RequestInit = { method, headers, cache: 'no-store', credentials: 'omit' }
    if (body !== undefined) options.body = JSON.stringify(body)
    try {
      return await fetch(`${this.base}/api/v1${path}`, options)
    } catch (error) {
      if (!(error instanceof TypeError)) throw error
      throw new ApiError('unreachable')
    }
  }
}

/** `detail`, or the first field error, of an application/problem+json answer. */
async function problemOf(response: Response): Promise<string> {
  if (!(response.headers.get('Content-Type') ?? '').includes('json')) return ''
  const json = record(await response.json())
  const first = Array.isArray(json['errors']) ? record(json['errors'][0] ?? {}) : {}
  if (typeof first['message'] === 'string') return `${String(first['field'] ?? '')} ${first['message']}`.trim()
  return typeof json['detail'] === 'string' ? json['detail'] : ''
}

function deviceOf(value: unknown): DeviceItem {
  const json = record(value)
  const position = json['position'] === null || json['position'] === undefined ? null : record(json['position'])
  return {
    token: String(json['device_token']),
    name: textOf(json['display_identifier']) ?? String(json['device_token']),
    online: typeof json['online'] === 'boolean' ? json['online'] : null,
    stale: json['stale'] === true,
    fix: position === null ? null : fixOf(position['latitude'], position['longitude'], position['speed'], position['heading'], position['timestamp']),
  }
}

export function fixOf(latitude: unknown, longitude: unknown, speed: unknown, heading: unknown, timestamp: unknown): FleetFix | null {
  const [lat, lng, at] = [numberOf(latitude), numberOf(longitude), numberOf(timestamp)]
  if (lat === null || lng === null || at === null) return null
  return { latitude: lat, longitude: lng, speed: numberOf(speed), heading: numberOf(heading), timestamp: at }
}

function linkOf(value: unknown): Link {
  const json = record(value)
  return {
    id: String(json['id']),
    url: String(json['share_url']),
    recipient: textOf(json['recipient_name']),
    order: textOf(json['order_id']),
    expiresAt: numberOf(json['expires_at']) ?? 0,
  }
}

function numberOf(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value.trim() !== '' ? value : null
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : []
}

export function record(value: unknown): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new ApiError('unreachable', 'the answer was not JSON')
  return value as Json
}
