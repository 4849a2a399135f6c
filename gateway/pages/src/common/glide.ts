import { between, distanceM, type Place } from './place'

const SNAP_M = 500
const JITTER_M = 2
const STANDING_MPS = 0.8
const SHORTEST_MS = 300
const LONGEST_MS = 10_000

export interface Arrival {
  place: Place
  /** m/s; null is unknown */
  speed: number | null
  /** the session's update interval */
  intervalMs: number
  /** true where motion is not wanted (reduced motion) or cannot be seen (hidden tab) */
  snap: boolean
}

/**
 * Moves what is displayed in a straight line to each new fix over one update interval, then holds: nothing is
 * extrapolated, so the page never shows a place where the driver was not reported. Hops over 500 m snap, and a
 * standing vehicle's jitter under 2 m is ignored.
 */
export class Glide {
  private from: Place | null = null
  private to: Place | null = null
  private startedAt = 0
  private lastsMs = 0

  /** Takes a fix at `now` (ms, monotonic). Returns whether anything will be seen to move. */
  arrive({ place, speed, intervalMs, snap }: Arrival, now: number): boolean {
    const shown = this.at(now)
    if (shown === null || this.to === null) {
      this.jump(place)
      return true
    }
    const hop = distanceM(shown, place)
    const standing = speed !== null && speed < STANDING_MPS
    if (hop === 0 || (standing && hop < JITTER_M)) return this.moving(now)
    if (snap || hop > SNAP_M) {
      this.jump(place)
      return true
    }
    this.from = shown
    this.to = place
    this.startedAt = now
    this.lastsMs = Math.min(LONGEST_MS, Math.max(SHORTEST_MS, intervalMs))
    return true
  }

  /** The place to draw at `now`; null before the first fix. */
  at(now: number): Place | null {
    if (this.from === null || this.to === null) return this.to
    const t = (now - this.startedAt) / this.lastsMs
    return t >= 1 ? this.to : between(this.from, this.to, Math.max(0, t))
  }

  /** Where the glide ends: the newest fix. */
  get goal(): Place | null {
    return this.to
  }

  moving(now: number): boolean {
    return this.from !== null && now - this.startedAt < this.lastsMs
  }

  /** Ends a glide where it was going, e.g. when the tab comes back. */
  settle(): void {
    this.from = null
  }

  clear(): void {
    this.from = null
    this.to = null
  }

  private jump(place: Place): void {
    this.from = null
    this.to = place
  }
}
