import type { EndReason, Frame, Session, Stage } from './session'

export type Connection = 'connecting' | 'open' | 'reconnecting' | 'lost' | 'offline'
export type Card =
  | { kind: 'ended'; reason: EndReason }
  | { kind: 'not_found' }
  | { kind: 'lost' }
  | { kind: 'busy'; untilMs: number }

/** All that the page knows. Times are the server's unix milliseconds unless a name says otherwise. */
export interface State {
  connection: Connection
  session: Session | null
  /** countdown: this many seconds from this server time */
  eta: { seconds: number; atMs: number } | null
  /** whether the last live fix came with an arrival time: a stale one is then said to be missing; null before any */
  hadEta: boolean | null
  /** server clock minus this device's clock */
  skewMs: number
  card: Card | null
}

export type Happening =
  | { type: 'connection'; connection: Connection }
  | { type: 'session'; session: Session; localMs: number }
  | { type: 'frame'; frame: Frame; localMs: number }
  | { type: 'card'; card: Card | null }

export function initial(skewMs: number): State {
  return { connection: 'connecting', session: null, eta: null, hadEta: null, skewMs, card: null }
}

/** Pure: the next state after something happened. Nothing follows an end. */
export function reduce(state: State, happening: Happening): State {
  if (state.card !== null && (state.card.kind === 'ended' || state.card.kind === 'not_found')) return state
  switch (happening.type) {
    case 'connection':
      return { ...state, connection: happening.connection }
    case 'card':
      return happening.card !== null && (happening.card.kind === 'ended' || happening.card.kind === 'not_found')
        ? wiped(state, happening.card)
        : { ...state, card: happening.card }
    case 'session':
      return withSession(state, happening.session, happening.localMs)
    case 'frame':
      return withFrame(state, happening.frame, happening.localMs)
  }
}

/** Whether the shown fix is too old to be called live, at this server time. */
export function isStale(state: State, nowMs: number): boolean {
  const { session } = state
  if (session === null || session.fix === null) return false
  return session.stale || nowMs - session.fix.timestamp * 1000 > session.staleAfterS * 1000
}

/** Seconds until arrival, never negative; null when unknown, hidden or stale. */
export function etaSeconds(state: State, nowMs: number): number | null {
  if (state.eta === null || isStale(state, nowMs)) return null
  return Math.max(0, state.eta.seconds - (nowMs - state.eta.atMs) / 1000)
}

/** After an end nothing personal stays, neither in the state nor, as the view draws only that, on the screen. */
function wiped(state: State, card: Card): State {
  return { ...state, session: null, eta: null, hadEta: null, card }
}

function withSession(state: State, session: Session, localMs: number): State {
  const skewMs = session.serverTime === null ? state.skewMs : session.serverTime * 1000 - localMs
  const known = state.session?.fix ?? null
  const late = session.fix !== null && known !== null && session.fix.timestamp < known.timestamp
  const merged = late ? { ...session, fix: known, etaSeconds: state.session?.etaSeconds ?? null, stale: state.session?.stale ?? false } : session
  const next = { ...state, skewMs, session: merged }
  return late ? next : withEta(next, merged)
}

function withFrame(state: State, frame: Frame, localMs: number): State {
  switch (frame.type) {
    case 'pong':
      return state
    case 'session_ended':
      return wiped(state, { kind: 'ended', reason: frame.reason })
    case 'session_updated':
      return frame.session === null ? state : withSession(state, frame.session, localMs)
    case 'status':
      return state.session === null ? state : { ...state, session: withStage(state.session, frame.stage) }
    case 'position': {
      const { session } = state
      // REST is on its way with the same fix and all the rest: half a page would only jump when that comes
      if (session === null) return state
      if (session.fix !== null && frame.fix.timestamp < session.fix.timestamp) return state
      const next: Session = {
        ...session,
        fix: frame.fix,
        etaSeconds: frame.etaSeconds,
        driverName: frame.driverName ?? session.driverName,
        stage: frame.stage ?? (session.stage === 'waiting' || session.stage === 'not_sharing' ? 'live' : session.stage),
        stale: frame.stale ?? false,
        staleAfterS: frame.staleAfterS ?? session.staleAfterS,
      }
      return withEta({ ...state, session: next }, next)
    }
  }
}

/** Stages whose device is not shown: it does not share (yet, or any more), so its last place is nobody's business. */
const WITHOUT_PLACE = new Set<Stage>(['waiting', 'not_sharing', 'arrived', 'no_show'])

function withStage(session: Session, stage: Stage): Session {
  return WITHOUT_PLACE.has(stage) ? { ...session, stage, fix: null, etaSeconds: null } : { ...session, stage }
}

/** The estimate belongs to the fix, so it counts down from the fix's time: the same fix sent twice does not restart it. */
function withEta(state: State, { etaSeconds: seconds, fix, stale }: Session): State {
  if (seconds === null || fix === null) return { ...state, eta: null, hadEta: fix === null || stale ? state.hadEta : false }
  return { ...state, eta: { seconds, atMs: fix.timestamp * 1000 }, hadEta: true }
}
