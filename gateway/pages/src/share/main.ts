import './share.css'
import { fill, Format } from '../common/format'
import type { ShareTexts } from '../i18n/share'
import type { LiveMap } from '../map/live-map'
import { readBoot, type Boot } from './boot'
import { fetchSession, Live } from './live'
import { Director } from './screen'
import { Sheet } from './sheet'
import { initial, isStale, reduce, type Card, type Happening, type State } from './state'
import { View, type CardTexts } from './view'

const TICK_MS = 1000
const SMALL_VIEW_PX = 300
const SCALE_PX = 90

/** The share page: one state, one way to change it, one way to draw it. */
class SharePage {
  private readonly t: ShareTexts
  private readonly format: Format
  private readonly view: View
  private readonly director: Director
  private readonly live: Live
  private state: State
  private map: LiveMap | null = null
  private mapFailed = false
  private drawn: { timestamp: number; latitude: number; longitude: number } | null = null
  private timer: ReturnType<typeof setInterval> | undefined
  private readonly reduced = matchMedia('(prefers-reduced-motion: reduce)')
  private readonly dark = matchMedia('(prefers-color-scheme: dark)')

  constructor(private readonly boot: Boot) {
    this.t = boot.texts
    this.format = new Format(navigator.languages[0] ?? boot.language, boot.language)
    this.view = new View(boot.texts, boot)
    this.director = new Director(boot.texts, this.format)
    this.state = initial(boot.server_time * 1000 - Date.now())
    const token = location.pathname.split('/').filter(Boolean).pop() ?? ''
    const api = boot.api ?? new URL('..', location.href).href.replace(/\/$/, '')
    const share = `${api}/api/v1/share/${token}`
    this.live = new Live(
      {
        connection: (connection) => this.connection(connection),
        session: (session) => this.happen({ type: 'session', session, localMs: Date.now() }),
        frame: (frame) => this.happen({ type: 'frame', frame, localMs: Date.now() }),
        ended: () => this.happen({ type: 'card', card: { kind: 'ended', reason: null } }),
        // a link that worked until now has run out; one that never did is wrong
        notFound: () => this.happen({ type: 'card', card: this.state.session === null ? { kind: 'not_found' } : { kind: 'ended', reason: 'expired' } }),
        busy: (seconds) => this.happen({ type: 'card', card: { kind: 'busy', untilMs: Date.now() + seconds * 1000 } }),
      },
      {
        fetchSession: () => fetchSession(share),
        openSocket: () => new WebSocket(`${share.replace(/^http/, 'ws')}/live`),
        random: Math.random,
        online: () => navigator.onLine,
        firstDelayMs: boot.reconnect_ms,
      },
    )
  }

  start(): void {
    const mapOnly = new URLSearchParams(location.search).get('embed') === 'map'
    document.documentElement.classList.toggle('map-only', mapOnly)
    const sheet = new Sheet(element('panel'), element('grip'), { show: this.t.showDetails, hide: this.t.hideDetails })
    this.view.onCovered = () => this.covered(sheet)
    element('again').addEventListener('click', () => this.retry())
    element('fit').addEventListener('click', () => this.map?.fit())
    element('centre').addEventListener('click', () => this.map?.center())
    element('in').addEventListener('click', () => this.map?.zoomBy(1))
    element('out').addEventListener('click', () => this.map?.zoomBy(-1))
    addEventListener('online', () => this.live.wake())
    addEventListener('offline', () => this.live.offline())
    addEventListener('pageshow', (event) => event.persisted && this.live.wake())
    addEventListener('resize', () => this.covered(sheet))
    document.addEventListener('visibilitychange', () => {
      if (document.hidden) return
      this.map?.settle()
      this.live.wake()
    })
    this.dark.addEventListener('change', (event) => this.map?.setDark(event.matches))
    this.timer = setInterval(() => this.draw(), TICK_MS)
    this.live.start()
    this.draw()
    // the map is big: text is on the screen before it is asked for
    requestAnimationFrame(() => setTimeout(() => void this.loadMap(), 0))
  }

  private connection(connection: State['connection']): void {
    this.happen({ type: 'connection', connection })
    if (connection === 'lost') this.happen({ type: 'card', card: { kind: 'lost' } })
    else if (connection === 'open' && this.state.card !== null) this.happen({ type: 'card', card: null })
  }

  private happen(happening: Happening): void {
    const before = this.state
    this.state = reduce(before, happening)
    this.draw()
    // with the stage of a booking its destination changes, which position frames do not carry
    const stage = this.state.session?.stage
    if (happening.type === 'frame' && before.session !== null && stage !== undefined && stage !== before.session.stage) this.live.reread()
    const over = this.state.card?.kind
    if ((over === 'ended' || over === 'not_found') && before.card?.kind !== over) this.end()
  }

  private end(): void {
    clearInterval(this.timer)
    this.live.stop()
    this.map?.destroy()
    this.map = null
    this.view.wipe()
  }

  private retry(): void {
    this.happen({ type: 'card', card: null })
    this.live.restart()
  }

  private draw(): void {
    const { card } = this.state
    const now = Date.now() + this.state.skewMs
    if (card?.kind === 'busy' && Date.now() >= card.untilMs) {
      this.retry()
      return
    }
    const screen = this.director.screen(this.state, now)
    this.view.draw(screen)
    this.view.card(card, card === null ? null : this.cardTexts(card))
    this.view.title(card === null ? fill(this.t.pageTitle, { brand: this.boot.brand.name }) : this.cardTexts(card).title)
    this.drawMap(now)
  }

  private drawMap(now: number): void {
    const session = this.state.session
    const fix = session?.fix ?? null
    if (this.mapFailed) this.view.noMap(fix)
    const map = this.map
    if (map === null) return
    map.destination(session?.destination ?? null)
    this.view.canFit(session?.destination != null && fix !== null)
    if (fix === null) {
      if (this.drawn !== null) map.removeDriver()
      this.drawn = null
      return
    }
    map.stale(isStale(this.state, now))
    const same = this.drawn?.timestamp === fix.timestamp && this.drawn.latitude === fix.latitude && this.drawn.longitude === fix.longitude
    if (same || session === null) return
    this.drawn = fix
    const snap = this.reduced.matches || document.hidden
    map.driver({ place: fix, speed: fix.speed, intervalMs: session.intervalMs, snap }, fix.heading)
  }

  private covered(sheet: Sheet): void {
    const covered = this.view.covered()
    const small = sheet.open && innerHeight - covered.top - covered.bottom < SMALL_VIEW_PX
    this.view.tools(this.map !== null && !small)
    if (!small) this.map?.setPadding(covered)
  }

  private async loadMap(): Promise<void> {
    try {
      const { LiveMap } = await import('../map/live-map')
      if (this.state.card?.kind === 'ended' || this.state.card?.kind === 'not_found') return
      this.map = new LiveMap({
        container: element('map'),
        config: this.boot.map,
        tiles: new URL('../tiles', location.href).href,
        dark: this.dark.matches,
        label: this.t.map,
        driverLabel: this.t.driver,
        destinationLabel: this.t.destination,
        still: () => this.reduced.matches,
        onFollow: (on) => this.view.follow(on),
        onReady: () => (document.documentElement.dataset['map'] = 'ready'),
        onView: (metresPerPx, grid) => this.scale(metresPerPx, grid),
        onCredits: (credits) => this.view.credits([...this.boot.map.attribution, ...credits]),
      })
    } catch (error) {
      // no WebGL, or the chunk did not arrive: the words go on without a map
      console.warn('map unavailable:', error instanceof Error ? error.message : error)
      this.mapFailed = true
      document.documentElement.dataset['map'] = 'failed'
      this.draw()
      return
    }
    this.view.tools(true)
    this.map.setPadding(this.view.covered())
    this.draw()
  }

  private scale(metresPerPx: number, grid: boolean): void {
    if (!grid) {
      this.view.scale(null, '')
      return
    }
    void import('../map/grid').then(({ scaleOf }) => {
      const { px, value, unit } = scaleOf(metresPerPx, SCALE_PX, this.format.miles)
      this.view.scale(px, this.format.length(value, unit))
    })
  }

  private cardTexts(card: Card): CardTexts {
    const { t } = this
    switch (card.kind) {
      case 'ended': {
        const text = { completed: t.completedText, cancelled: t.cancelledText, expired: t.expiredText }
        return { kind: card.reason ?? 'ended', title: t.endedTitle, text: card.reason === null ? t.endedText : text[card.reason], wait: null, action: null }
      }
      case 'not_found':
        return { kind: 'not_found', title: t.notFoundTitle, text: t.notFoundText, wait: null, action: null }
      case 'lost':
        return { kind: 'lost', title: t.lostTitle, text: t.lostText, wait: null, action: t.tryAgain }
      case 'busy': {
        const wait = fill(t.busyWait, { duration: this.format.seconds((card.untilMs - Date.now()) / 1000) })
        return { kind: 'busy', title: t.busyTitle, text: t.busyText, wait, action: null }
      }
    }
  }
}

function element(id: string): HTMLElement {
  const found = document.getElementById(id)
  if (found === null) throw new Error(`the page lacks #${id}`)
  return found
}

new SharePage(readBoot()).start()
