import { html, LitElement, nothing, type PropertyValues, type TemplateResult } from 'lit'
import { fill, Format } from '../common/format'
import type { Place } from '../common/place'
import { english, trackerTexts } from '../i18n/tracker'
import type { TrackerTexts } from '../i18n/tracker/texts'
import type { Credit } from '../map/config'
import { Api, ApiError, type Link } from './api'
import type { TrackerBoot } from './boot'
import { Feed, type FeedState } from './feed'
import { Fleet, type Device } from './fleet'
import type { FleetMap } from './fleet-map'
import { deviceCard, deviceRow, type Words } from './device-view'
import { icons } from './icons'
import { ShareDrawer } from './share-drawer'
import { base, tracker } from './styles'

/** Streams tell where devices are; that one stopped sharing is learnt by asking again. */
const REREAD_MS = 15_000
const LIST_MS = 1000
const MOST_ROWS = 200
/** below this width the list lies under the map and the drawer comes from below */
const NARROW_PX = 640

export type JwtProvider = () => string | null | Promise<string | null>

/**
 * `<live-tracker instance-id="acme">`: the fleet of an instance, live, and its share links.
 *
 * The token comes from the property `token`, or from `jwtProvider` (a function; the attribute `jwt-provider` names a
 * global one), which is asked again when a token is refused. `src` is the gateway's address where the script does not
 * come from it. Events, bubbling and composed: `tracker:ready`, `tracker:select` ({deviceToken}), `tracker:share-created`
 * ({id, url, deviceToken}) and `tracker:auth-required`.
 */
export class LiveTracker extends LitElement {
  static override properties = {
    instanceId: { attribute: 'instance-id' },
    src: {},
    theme: {},
    jwtProviderName: { attribute: 'jwt-provider' },
    boot: { attribute: false },
    feedState: { state: true },
    query: { state: true },
    selected: { state: true },
    sharing: { state: true },
    pin: { state: true },
    problem: { state: true },
    loaded: { state: true },
    t: { state: true },
    credits: { state: true },
    bare: { state: true },
    hintClosed: { state: true },
    mapFailed: { state: true },
  }
  static override styles = [base, tracker]

  declare instanceId: string
  declare src: string
  /** `light`, `dark`, or what the reader's system prefers */
  declare theme: string
  declare jwtProviderName: string
  /** set by the iframe page; else fetched from the gateway */
  declare boot: TrackerBoot | null
  jwtProvider: JwtProvider | null = null
  declare private feedState: FeedState | 'signed-out'
  declare private query: string
  declare private selected: string | null
  declare private sharing: boolean
  declare private pin: Place | null
  declare private problem: string | null
  declare private loaded: boolean
  declare private t: TrackerTexts
  declare private credits: Credit[]
  declare private bare: boolean
  declare private hintClosed: boolean
  declare private mapFailed: boolean

  private jwt: string | null = null
  private readonly fleet = new Fleet()
  private api: Api | null = null
  private feed: Feed | null = null
  private map: FleetMap | null = null
  private format = new Format('en', 'en')
  private collator = new Intl.Collator()
  private timers: ReturnType<typeof setInterval>[] = []
  private resizes: ResizeObserver | null = null
  private readonly reduced = matchMedia('(prefers-reduced-motion: reduce)')
  private readonly prefersDark = matchMedia('(prefers-color-scheme: dark)')
  private readonly onWake = (): void => {
    if (!document.hidden) this.feed?.wake()
  }
  private readonly onScheme = (): void => this.paint()

  constructor() {
    super()
    this.instanceId = 'default'
    this.src = ''
    this.theme = ''
    this.jwtProviderName = ''
    this.boot = null
    this.feedState = 'connecting'
    this.query = ''
    this.selected = null
    this.sharing = false
    this.pin = null
    this.problem = null
    this.loaded = false
    this.t = english
    this.credits = []
    this.bare = false
    this.hintClosed = false
    this.mapFailed = false
  }

  get token(): string | null {
    return this.jwt
  }

  /** A new token is used at once; after a refusal it starts everything again. */
  set token(value: string | null) {
    this.jwt = value
    if (value !== null && this.api !== null && this.feedState !== 'live') this.begin()
  }

  override connectedCallback(): void {
    super.connectedCallback()
    document.addEventListener('visibilitychange', this.onWake)
    addEventListener('online', this.onWake)
    this.prefersDark.addEventListener('change', this.onScheme)
    void this.open()
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback()
    document.removeEventListener('visibilitychange', this.onWake)
    removeEventListener('online', this.onWake)
    this.prefersDark.removeEventListener('change', this.onScheme)
    for (const timer of this.timers) clearInterval(timer)
    this.resizes?.disconnect()
    this.feed?.stop()
    this.map?.destroy()
    this.map = null
  }

  override updated(changed: PropertyValues): void {
    if (changed.has('theme')) this.paint()
  }

  override render(): TemplateResult {
    const { t } = this
    const device = this.selected === null ? undefined : this.fleet.devices.get(this.selected)
    return html`
      <div class="app ${this.sharing ? 'sharing' : ''}">
        <section class="side" aria-label=${t.fleet}>
          <div class="top">
            <div class="head">
              <h2>${t.fleet}</h2>
              <span class="conn" role="status" data-state=${this.feedState}>${this.stateText()}</span>
            </div>
            <div class="search">
              ${icons.search}
              <input type="search" aria-label=${t.search} placeholder=${t.search} @input=${(event: Event) => (this.query = (event.target as HTMLInputElement).value)} />
            </div>
            ${this.problem === null
              ? nothing
              : html`<p class="banner bad" role="alert"><span>${this.problem}</span><button type="button" class="secondary" @click=${() => this.begin()}>${t.retry}</button></p>`}
          </div>
          ${this.rows()}
        </section>
        <div class="stage">
          <div class="map" id="map"></div>
          ${this.mapFailed ? html`<p class="nomap">${t.noMap}</p>` : nothing}
          <div class="credit" role="group" aria-label=${t.attribution} ?hidden=${this.credits.length === 0}>${this.credits.map(
            ({ text, href }) => (href === null ? html`<span>${text}</span>` : html`<a href=${href} target="_blank" rel="noopener noreferrer">${text}</a>`),
          )}</div>
          ${this.bare && this.boot?.map.kind === 'builtin' && !this.hintClosed && !this.sharing && device === undefined
            ? html`<p class="banner hint"><span>${t.streetsHint}</span><button type="button" class="icon" aria-label=${t.close} @click=${() => (this.hintClosed = true)}>${icons.close}</button></p>`
            : nothing}
          <div class="tools" ?hidden=${this.map === null}>
            <button type="button" class="icon" aria-label=${t.zoomIn} title=${t.zoomIn} @click=${() => this.map?.zoomBy(1)}>${icons.plus}</button>
            <button type="button" class="icon" aria-label=${t.zoomOut} title=${t.zoomOut} @click=${() => this.map?.zoomBy(-1)}>${icons.minus}</button>
            <button type="button" class="icon" aria-label=${t.showAll} title=${t.showAll} @click=${() => this.map?.fit()}>${icons.fit}</button>
          </div>
          ${device === undefined ? nothing : deviceCard(device, this.words(), () => this.openDrawer(), () => this.select(null))}
        </div>
        ${device === undefined || !this.sharing || this.api === null ? nothing : this.drawer(device, this.api)}
      </div>
    `
  }

  private rows(): TemplateResult {
    const { t } = this
    if (this.feedState === 'signed-out') return html`<div class="empty"><b>${t.signInTitle}</b>${t.signInText}</div>`
    const found = this.fleet.search(this.query, this.collator)
    if (found.length === 0) {
      if (!this.loaded) return html`<div class="empty" aria-busy="true"></div>`
      return this.query.trim() === ''
        ? html`<div class="empty"><b>${t.empty}</b>${t.emptyText}</div>`
        : html`<div class="empty">${t.noMatch}</div>`
    }
    const rest = found.length - MOST_ROWS
    return html`
      <ul class="rows">
        ${found.slice(0, MOST_ROWS).map((device) => deviceRow(device, this.words(), device.token === this.selected, () => this.select(device.token)))}
        ${rest > 0 ? html`<li class="more">${fill(t.more, { count: String(rest) })}</li>` : nothing}
      </ul>
    `
  }

  private words(): Words {
    return { t: this.t, format: this.format, fleet: this.fleet, nowS: Date.now() / 1000 }
  }

  private drawer(device: Device, api: Api): TemplateResult {
    return html`<share-drawer
      class=${this.classList.contains('dark') ? 'dark' : ''}
      dir=${this.dir || nothing}
      .api=${api} .t=${this.t} .format=${this.format} .token=${device.token} .name=${device.name} .limit=${this.boot?.link_limit ?? 10} .pin=${this.pin}
      @drawer-close=${() => this.closeDrawer()}
      @pin-start=${() => this.map?.startPin(this.covered())}
      @pin-remove=${() => this.removePin()}
      @auth-required=${() => this.expired()}
      @link-created=${(event: CustomEvent<Link>) => this.emit('share-created', { id: event.detail.id, url: event.detail.url, deviceToken: device.token })}
    ></share-drawer>`
  }

  private async open(): Promise<void> {
    const gateway = this.src === '' ? new URL('..', import.meta.url).href : new URL(this.src, location.href).href
    const root = gateway.replace(/\/$/, '')
    if (this.boot === null) {
      const answer = await fetch(`${root}/embed/config?instance_id=${encodeURIComponent(this.instanceId)}`, { credentials: 'omit' })
      if (!answer.ok) throw new Error(`the gateway answered ${answer.status}`)
      this.boot = (await answer.json()) as TrackerBoot
    }
    const { boot } = this
    const language = this.lang || boot.language
    this.format = new Format(navigator.languages[0] ?? language, language)
    this.collator = new Intl.Collator(language, { numeric: true, sensitivity: 'base' })
    this.t = await trackerTexts(language)
    if (language === 'ar') this.dir = 'rtl'
    this.style.setProperty('--brand-light', boot.brand.light)
    this.style.setProperty('--brand-dark', boot.brand.dark)
    this.style.setProperty('--on-light', boot.brand.on_light)
    this.style.setProperty('--on-dark', boot.brand.on_dark)
    this.credits = boot.map.attribution
    this.paint()
    const source = (fresh: boolean): Promise<string | null> => this.askToken(fresh)
    this.api = new Api(boot.api ?? root, this.instanceId, source)
    this.feed = new Feed(this.api.streamUrl, this.instanceId, source, {
      state: (state) => this.feedChanged(state),
      position: (token, name, fix) => this.fleet.report(token, name, fix, this.reduced.matches || document.hidden, performance.now()),
    })
    this.timers.push(setInterval(() => this.requestUpdate(), LIST_MS), setInterval(() => void this.reread(), REREAD_MS))
    this.begin()
    await this.loadMap(root, boot)
    this.emit('ready', {})
  }

  /** Reads the fleet and listens; also after a new token. */
  private begin(): void {
    if (this.jwt === null && this.provider() === null) {
      this.feedState = 'signed-out'
      return
    }
    this.problem = null
    this.feed?.start()
    void this.reread()
  }

  private async reread(): Promise<void> {
    if (this.api === null || document.hidden || this.feedState === 'signed-out' || this.feedState === 'expired') return
    try {
      this.fleet.replace(await this.api.devices(), performance.now())
      this.loaded = true
      this.problem = null
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      if (error.refusal === 'expired') this.expired()
      else this.problem = error.refusal === 'forbidden' ? this.t.forbidden : error.refusal === 'busy' ? this.t.busy : this.t.unreachable
    }
  }

  private async askToken(fresh: boolean): Promise<string | null> {
    const provider = this.provider()
    if (provider !== null && (fresh || this.jwt === null)) this.jwt = await provider()
    else if (fresh) this.jwt = null
    return this.jwt
  }

  private provider(): JwtProvider | null {
    if (this.jwtProvider !== null) return this.jwtProvider
    const named = (window as unknown as Record<string, unknown>)[this.jwtProviderName]
    return this.jwtProviderName !== '' && typeof named === 'function' ? (named as JwtProvider) : null
  }

  private feedChanged(state: FeedState): void {
    this.feedState = state
    if (state === 'expired') this.expired()
    else if (state === 'forbidden') this.problem = this.t.forbidden
    else if (state === 'live') this.problem = null
  }

  private expired(): void {
    this.feed?.stop()
    this.feedState = 'expired'
    this.problem = this.t.expired
    this.emit('auth-required', {})
  }

  private async loadMap(root: string, boot: TrackerBoot): Promise<void> {
    await this.updateComplete
    const container = this.renderRoot.querySelector<HTMLElement>('#map')
    if (container === null || !this.isConnected) return
    try {
      const { FleetMap } = await import('./fleet-map')
      if (!this.isConnected) return
      const map = new FleetMap(this.fleet, {
        container,
        config: boot.map,
        tiles: `${root}/tiles`,
        dark: this.classList.contains('dark'),
        color: boot.brand.light,
        label: this.t.map,
        pinLabel: this.t.pin,
        still: () => this.reduced.matches,
        onReady: () => (this.dataset['map'] = 'ready'),
        onSelect: (token) => this.select(token),
        onPin: (place) => (this.pin = place),
        onCredits: (credits) => (this.credits = [...boot.map.attribution, ...credits]),
        onView: (bare) => (this.bare = bare),
      })
      this.map = map
      this.resizes = new ResizeObserver(() => map.resize())
      this.resizes.observe(container)
    } catch (error) {
      console.warn('map unavailable:', error instanceof Error ? error.message : error)
      this.mapFailed = true
      this.dataset['map'] = 'failed'
    }
    this.requestUpdate()
  }

  private select(token: string | null): void {
    if (token === null && this.sharing) return
    if (token !== this.selected) this.removePin()
    this.selected = token
    if (token === null) this.sharing = false
    this.map?.select(token, this.sharing ? this.covered() : { right: 0, bottom: 0 })
    this.emit('select', { deviceToken: token })
  }

  /** The form covers a part of the map: the device is brought into what is left. */
  private openDrawer(): void {
    this.sharing = true
    void this.updateComplete.then(() => this.map?.select(this.selected, this.covered()))
  }

  private closeDrawer(): void {
    this.sharing = false
    this.removePin()
    void this.updateComplete.then(() => this.renderRoot.querySelector<HTMLElement>('#share')?.focus())
  }

  private removePin(): void {
    this.pin = null
    this.map?.removePin()
  }

  /** What the drawer covers of the map, in px. */
  private covered(): { right: number; bottom: number } {
    const stage = this.renderRoot.querySelector('.stage')?.getBoundingClientRect()
    const drawer = this.renderRoot.querySelector('share-drawer')?.getBoundingClientRect()
    if (stage === undefined || drawer === undefined) return { right: 0, bottom: 0 }
    if (this.clientWidth <= NARROW_PX) return { right: 0, bottom: Math.max(0, stage.bottom - drawer.top) }
    return { right: Math.max(0, stage.right - drawer.left), bottom: 0 }
  }

  private paint(): void {
    const dark = this.theme === 'dark' || (this.theme !== 'light' && this.prefersDark.matches)
    if (this.classList.contains('dark') === dark) return
    this.classList.toggle('dark', dark)
    this.map?.setDark(dark)
    this.requestUpdate()
  }

  private stateText(): string {
    const { t } = this
    if (!navigator.onLine) return t.offline
    return { connecting: t.connecting, live: t.live, reconnecting: t.reconnecting, expired: t.offline, forbidden: t.offline, 'signed-out': t.offline }[this.feedState]
  }

  private emit(name: string, detail: Record<string, unknown>): void {
    this.dispatchEvent(new CustomEvent(`tracker:${name}`, { detail, bubbles: true, composed: true }))
  }
}

if (customElements.get('share-drawer') === undefined) customElements.define('share-drawer', ShareDrawer)
if (customElements.get('live-tracker') === undefined) customElements.define('live-tracker', LiveTracker)
