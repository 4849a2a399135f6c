import { Glide } from '../common/glide'
import type { DeviceItem, FleetFix } from './api'

/** The API says when a device is stale; between its answers, silence this long says it too. */
const SILENT_S = 60
const LONGEST_GAP_MS = 10_000
const FIRST_GAP_MS = 2000

/** One device as the tracker keeps it: what was reported, and where it is drawn meanwhile. */
export interface Device {
  token: string
  name: string
  fix: FleetFix | null
  /** as the API last said; a fresh fix overrules it */
  stale: boolean
  glide: Glide
  arrivedAt: number
  /** whether live fixes came since the API last spoke of it */
  heard: boolean
}

/** All devices of the instance, by token. */
export class Fleet {
  readonly devices = new Map<string, Device>()

  /** The whole list as REST answers it: devices that are gone, go. */
  replace(items: DeviceItem[], now: number): void {
    const tokens = new Set(items.map((item) => item.token))
    for (const token of this.devices.keys()) if (!tokens.has(token)) this.devices.delete(token)
    for (const item of items) {
      const device = this.device(item.token)
      device.name = item.name
      device.stale = item.stale || item.online === false
      device.heard = false
      if (item.fix === null) {
        device.fix = null
        device.glide.clear()
      } else if (device.fix === null || item.fix.timestamp > device.fix.timestamp) {
        this.place(device, item.fix, true, now)
      }
    }
  }

  /** A live fix. Older ones than the newest are dropped. */
  report(token: string, name: string | null, fix: FleetFix, snap: boolean, now: number): void {
    const device = this.device(token)
    if (name !== null) device.name = name
    if (device.fix !== null && fix.timestamp < device.fix.timestamp) return
    device.stale = false
    device.heard = true
    this.place(device, fix, snap, now)
  }

  isStale(device: Device, nowS: number): boolean {
    if (device.fix === null) return false
    return device.stale || (device.heard && nowS - device.fix.timestamp > SILENT_S)
  }

  /** By name, those that match every word of the search. */
  search(words: string, collator: Intl.Collator): Device[] {
    const wanted = words.toLocaleLowerCase().split(/\s+/).filter(Boolean)
    return [...this.devices.values()]
      .filter(({ name, token }) => {
        const text = `${name} ${token}`.toLocaleLowerCase()
        return wanted.every((word) => text.includes(word))
      })
      .sort((a, b) => collator.compare(a.name, b.name))
  }

  private place(device: Device, fix: FleetFix, snap: boolean, now: number): void {
    const gap = device.arrivedAt === 0 ? FIRST_GAP_MS : Math.min(LONGEST_GAP_MS, now - device.arrivedAt)
    device.fix = fix
    device.arrivedAt = now
    device.glide.arrive({ place: fix, speed: fix.speed, intervalMs: gap, snap }, now)
  }

  private device(token: string): Device {
    const known = this.devices.get(token)
    if (known !== undefined) return known
    const made: Device = { token, name: token, fix: null, stale: false, glide: new Glide(), arrivedAt: 0, heard: false }
    this.devices.set(token, made)
    return made
  }
}
