import { fill, type Format } from '../common/format'
import type { ShareTexts } from '../i18n/share'
import type { Stage } from './session'
import { etaSeconds, isStale, type State } from './state'

const ARRIVING_NOW_S = 45
const STEADY_CLOCK_MS = 45_000
const JUST_NOW_S = 20
const STANDING_MPS = 0.8

export type PillState = 'connecting' | 'waiting' | 'live' | 'stale' | 'reconnecting' | 'lost' | 'offline' | 'paused' | 'ended'
export type Tone = 'ok' | 'warn' | 'bad' | 'quiet'

/** Exactly what stands on the screen; the view copies it into the DOM and decides nothing. */
export interface Screen {
  pill: { state: PillState; tone: Tone; text: string }
  headline: { text: string; big: boolean }
  subline: string
  /** index of the current of four steps of a booking; null where there is no journey */
  step: number | null
  driver: { name: string; initials: string; line: string; warn: boolean } | null
  speed: string | null
  heading: { deg: number; text: string } | null
  greeting: string | null
  notes: string | null
  destination: { title: string; label: string } | null
  order: string | null
  privacy: string | null
}

const STEPS: Partial<Record<Stage, number>> = { en_route_to_pickup: 0, at_pickup: 1, on_trip: 2, arrived: 3 }
/** Arrival times mean nothing once there, or when nobody is coming. */
const WITHOUT_ETA = new Set<Stage>(['waiting', 'not_sharing', 'at_pickup', 'arrived', 'no_show', 'trip_ended'])

/** Pure, but for the arrival clock, which moves only when it changes by more than 45 s. */
export class Director {
  private arrivalMs: number | null = null

  constructor(
    private readonly t: ShareTexts,
    private readonly format: Format,
  ) {}

  screen(state: State, nowMs: number): Screen {
    const { session } = state
    const stale = isStale(state, nowMs)
    const seconds = session !== null && !WITHOUT_ETA.has(session.stage) ? etaSeconds(state, nowMs) : null
    const [headline, subline] = this.headline(state, nowMs, stale, seconds)
    const shown = session !== null && session.fix !== null && !stale
    return {
      pill: this.pill(state, stale),
      headline: { text: headline, big: seconds !== null },
      subline,
      step: session === null ? null : (STEPS[session.stage] ?? null),
      driver: session === null ? null : this.driver(state, nowMs, stale),
      speed: shown && session.fix !== null ? this.speed(session.fix.speed) : null,
      heading: shown && session.fix !== null ? this.heading(session.fix.heading) : null,
      greeting: session?.recipientName == null ? null : fill(this.t.hello, { name: session.recipientName }),
      notes: session?.notes ?? null,
      destination: this.destination(state),
      order: session?.orderId ?? null,
      privacy:
        session?.expiresAt == null ? null : fill(this.t.privacy, { time: this.format.moment(session.expiresAt * 1000, nowMs) }),
    }
  }

  private pill(state: State, stale: boolean): Screen['pill'] {
    const { t } = this
    if (state.card?.kind === 'ended') return { state: 'ended', tone: 'quiet', text: t.endedTitle }
    switch (state.connection) {
      case 'offline':
        return { state: 'offline', tone: 'bad', text: t.offline }
      case 'lost':
        return { state: 'lost', tone: 'bad', text: t.connectionLost }
      case 'reconnecting':
        return { state: 'reconnecting', tone: 'warn', text: t.reconnecting }
      case 'connecting':
        return { state: 'connecting', tone: 'quiet', text: t.connecting }
      case 'open':
        if (state.session?.stage === 'not_sharing') return { state: 'paused', tone: 'quiet', text: t.sharingOff }
        if (state.session === null || state.session.fix === null) return { state: 'waiting', tone: 'ok', text: t.connected }
        if (state.session.stage === 'trip_ended') return { state: 'paused', tone: 'quiet', text: t.tripEndedTitle }
        return stale ? { state: 'stale', tone: 'warn', text: t.signalLost } : { state: 'live', tone: 'ok', text: t.live }
    }
  }

  private headline(state: State, nowMs: number, stale: boolean, seconds: number | null): [string, string] {
    const { t, format } = this
    const { session } = state
    if (session === null) return [t.liveTitle, t.connecting]
    const name = session.driverName
    const follow = name === null ? t.followDriver : fill(t.follow, { name })
    switch (session.stage) {
      case 'waiting':
        return [t.waitingTitle, t.waitingText]
      case 'not_sharing':
        return [t.notSharingTitle, t.notSharingText]
      case 'at_pickup':
        return [t.atPickupTitle, name === null ? t.atPickupDriver : fill(t.atPickupText, { name })]
      case 'arrived':
        return [t.arrivedTitle, t.arrivedText]
      case 'no_show':
        return [t.noShowTitle, t.noShowText]
      case 'trip_ended':
        return [t.tripEndedTitle, t.tripEndedText]
      default:
    }
    if (session.fix === null) {
      if (session.stage === 'en_route_to_pickup') return [t.enRouteTitle, t.waitingText]
      if (session.stage === 'on_trip') return [t.onTripTitle, t.onTripText]
      return [t.waitingTitle, t.waitingText]
    }
    if (stale) return [(state.hadEta ?? session.destination !== null) ? t.noEtaTitle : t.pausedTitle, t.staleText]
    if (seconds !== null) {
      const arrival = fill(t.estimatedArrival, { time: format.clock(this.arrival(nowMs + seconds * 1000)) })
      if (seconds < ARRIVING_NOW_S) return [t.arrivingNow, arrival]
      return [fill(t.arrivingIn, { duration: format.minutes(seconds) }), arrival]
    }
    if (session.stage === 'en_route_to_pickup') return [t.enRouteTitle, name === null ? follow : fill(t.enRouteText, { name })]
    if (session.stage === 'on_trip') return [t.onTripTitle, t.onTripText]
    return [t.liveTitle, follow]
  }

  private arrival(atMs: number): number {
    if (this.arrivalMs === null || Math.abs(atMs - this.arrivalMs) > STEADY_CLOCK_MS) this.arrivalMs = atMs
    return this.arrivalMs
  }

  private driver(state: State, nowMs: number, stale: boolean): Screen['driver'] {
    const { t, format } = this
    const name = state.session?.driverName ?? t.yourDriver
    const initials = state.session?.driverName == null ? '' : initialsOf(name)
    const fix = state.session?.fix ?? null
    if (fix === null) return { name, initials, line: '', warn: false }
    const age = Math.max(0, nowMs / 1000 - fix.timestamp)
    if (stale) return { name, initials, line: fill(t.lastSeen, { ago: format.ago(age) }), warn: true }
    return { name, initials, line: age < JUST_NOW_S ? t.updatedNow : fill(t.updated, { ago: format.ago(age) }), warn: false }
  }

  private speed(mps: number | null): string | null {
    if (mps === null) return null
    return mps < STANDING_MPS ? this.t.stopped : this.format.speed(mps)
  }

  private heading(deg: number | null): Screen['heading'] {
    return deg === null ? null : { deg, text: this.format.compass(deg, this.t.compass) }
  }

  private destination({ session }: State): Screen['destination'] {
    if (session?.destination?.label == null) return null
    const pickup = session.stage === 'en_route_to_pickup' || session.stage === 'at_pickup'
    return { title: pickup ? this.t.pickup : this.t.destination, label: session.destination.label }
  }
}

/** First letters of the first and last word, as their writing system spells them. */
export function initialsOf(name: string): string {
  const words = name.trim().split(/\s+/)
  const letters = [words[0], words.length > 1 ? words[words.length - 1] : undefined]
  return letters.map((word) => (word === undefined ? '' : ([...word][0] ?? ''))).join('').toLocaleUpperCase()
}
