import { html, LitElement, nothing, type PropertyValues, type TemplateResult } from 'lit'
import { fill, type Format } from '../common/format'
import type { Place } from '../common/place'
import type { TrackerTexts } from '../i18n/tracker/texts'
import { ApiError, type Api, type Link } from './api'
import { copyText } from './clipboard'
import { icons } from './icons'
import { base, drawer } from './styles'

const HOURS = [1, 4, 24, 72, 168]
const DEFAULT_HOURS = 24
const TICK_MS = 30_000
const COPIED_MS = 2000

type Show = { speed: boolean; heading: boolean; eta: boolean; destination: boolean }

/**
 * The form that makes a share link of one device, and the device's active links.
 * Events: `drawer-close`, `pin-start`, `pin-remove`, `link-created` (detail: Link), `auth-required`.
 */
export class ShareDrawer extends LitElement {
  static override properties = {
    api: { attribute: false },
    t: { attribute: false },
    format: { attribute: false },
    token: { attribute: false },
    name: { attribute: false },
    limit: { attribute: false },
    pin: { attribute: false },
    links: { state: true },
    made: { state: true },
    problem: { state: true },
    said: { state: true },
    busy: { state: true },
    copied: { state: true },
    show: { state: true },
  }
  static override styles = [base, drawer]

  declare api: Api
  declare t: TrackerTexts
  declare format: Format
  declare token: string
  declare name: string
  declare limit: number
  declare pin: Place | null
  declare private links: Link[] | null
  declare private made: Link | null
  declare private problem: string | null
  declare private said: string
  declare private busy: boolean
  declare private copied: string | null
  declare private show: Show
  private ticker: ReturnType<typeof setInterval> | undefined

  constructor() {
    super()
    this.pin = null
    this.links = null
    this.made = null
    this.problem = null
    this.said = ''
    this.busy = false
    this.copied = null
    this.show = { speed: true, heading: true, eta: true, destination: true }
  }

  override connectedCallback(): void {
    super.connectedCallback()
    this.ticker = setInterval(() => this.requestUpdate(), TICK_MS)
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback()
    clearInterval(this.ticker)
  }

  override firstUpdated(): void {
    this.renderRoot.querySelector<HTMLElement>('.sheet')?.focus()
  }

  override updated(changed: PropertyValues): void {
    if (changed.has('token')) {
      this.links = null
      this.made = null
      this.problem = null
      void this.load()
    }
  }

  override render(): TemplateResult {
    const { t } = this
    return html`
      <div class="sheet" role="dialog" aria-labelledby="title" tabindex="-1" @keydown=${(event: KeyboardEvent) => this.key(event)}>
        <header>
          <h2 id="title" dir="auto">${fill(t.shareTitle, { name: this.name })}</h2>
          <button type="button" class="icon" aria-label=${t.close} @click=${() => this.emit('drawer-close')}>${icons.close}</button>
        </header>
        ${this.made === null ? this.form() : this.result(this.made)}
        <div class="status" role="status">${this.said === '' ? nothing : this.said}</div>
        ${this.active()}
      </div>
    `
  }

  private form(): TemplateResult {
    const { t } = this
    const full = this.links !== null && this.links.length >= this.limit
    const placed = this.pin !== null
    const toggle = (key: keyof Show, text: string, needsPin: boolean): TemplateResult => html`
      <label class="switch">
        <span>${text} ${needsPin && !placed ? html`<small>${t.needsDestination}</small>` : nothing}</span>
        <input
          type="checkbox" role="switch" name=${`show_${key}`}
          .checked=${this.show[key] && (!needsPin || placed)} ?disabled=${needsPin && !placed}
          @change=${(event: Event) => (this.show = { ...this.show, [key]: (event.target as HTMLInputElement).checked })}
        />
      </label>
    `
    return html`
      <form @submit=${(event: SubmitEvent) => this.submit(event)}>
        <div class="pair">
          <div class="field"><label for="recipient">${t.recipient}</label><input id="recipient" name="recipient" maxlength="200" autocomplete="off" dir="auto" /></div>
          <div class="field"><label for="order">${t.order}</label><input id="order" name="order" maxlength="200" autocomplete="off" dir="auto" /></div>
        </div>
        <div class="field"><label for="notes">${t.message}</label><textarea id="notes" name="notes" maxlength="2000" placeholder=${t.messageHint} dir="auto"></textarea></div>
        <div class="field">
          <label for="hours">${t.expires}</label>
          <select id="hours" name="hours">
            ${HOURS.map((hours) => html`<option value=${hours} ?selected=${hours === DEFAULT_HOURS}>${this.format.span(hours)}</option>`)}
          </select>
        </div>
        <div class="field">
          <label for="label">${t.destination}</label>
          <input id="label" name="label" maxlength="300" placeholder=${t.destinationHint} autocomplete="off" dir="auto" />
          <div class="place">
            <button type="button" class="secondary" id="set-pin" @click=${() => this.emit('pin-start')}>${icons.pin} ${t.setOnMap}</button>
            ${placed ? html`<button type="button" class="icon" aria-label=${t.removePin} title=${t.removePin} @click=${() => this.emit('pin-remove')}>${icons.close}</button>` : nothing}
          </div>
          ${placed ? html`<p class="tip">${t.movePin}</p>` : nothing}
        </div>
        <fieldset>
          <legend>${t.showTo}</legend>
          ${toggle('speed', t.showSpeed, false)} ${toggle('heading', t.showHeading, false)} ${toggle('eta', t.showEta, true)} ${toggle('destination', t.showDestination, true)}
        </fieldset>
        ${full ? html`<p class="banner" id="limit"><span>${fill(t.limit, { limit: String(this.limit) })}</span></p>` : nothing}
        ${this.problem === null ? nothing : html`<p class="banner bad" role="alert" id="problem"><span>${this.problem}</span></p>`}
        <button type="submit" class="primary wide" id="create" ?disabled=${full || this.busy}>${this.busy ? t.creating : t.create}</button>
      </form>
    `
  }

  private result(link: Link): TemplateResult {
    const { t } = this
    return html`
      <div class="result">
        <p class="ready"><b>${t.ready}</b>${t.readyText}</p>
        <div class="url">
          <input readonly aria-label=${t.link} id="url" .value=${link.url} @focus=${(event: Event) => (event.target as HTMLInputElement).select()} />
          <button type="button" class="primary" id="copy" @click=${() => void this.copy(link)}>${icons.copy} ${this.copied === link.id ? t.copied : t.copy}</button>
        </div>
        <button type="button" class="secondary" id="another" @click=${() => this.again()}>${t.another}</button>
      </div>
    `
  }

  private active(): TemplateResult | typeof nothing {
    const { t, links } = this
    if (links === null) return nothing
    const rows = links.map((link) => {
      const name = this.nameOf(link)
      return html`
        <li>
          <div><b dir="auto">${name}</b><small>${this.expiry(link)}</small></div>
          <button type="button" class="icon copy" aria-label=${fill(t.copyLink, { name })} title=${this.copied === link.id ? t.copied : t.copy} @click=${() => void this.copy(link)}>${icons.copy}</button>
          <button type="button" class="end" aria-label=${fill(t.endLink, { name })} @click=${() => void this.end(link)}>${t.end}</button>
        </li>
      `
    })
    return html`
      <h3>${fill(t.activeLinks, { count: String(links.length), limit: String(this.limit) })}</h3>
      ${rows.length === 0 ? html`<p class="none">${t.noLinks}</p>` : html`<ul>${rows}</ul>`}
    `
  }

  private nameOf(link: Link): string {
    return link.recipient ?? link.order ?? this.t.untitled
  }

  private expiry(link: Link): string {
    const when = this.format.until(link.expiresAt - Date.now() / 1000)
    const expires = fill(this.t.expiresIn, { when })
    return link.recipient !== null && link.order !== null ? `${link.order} · ${expires}` : expires
  }

  private async load(): Promise<void> {
    const token = this.token
    await this.attempt(async () => {
      const links = await this.api.links(token)
      if (token === this.token) this.links = links
    })
  }

  private submit(event: SubmitEvent): void {
    event.preventDefault()
    const form = new FormData(event.target as HTMLFormElement)
    const text = (name: string): string => String(form.get(name) ?? '').trim()
    const pin = this.pin
    void this.attempt(async () => {
      this.busy = true
      try {
        this.made = await this.api.createLink({
          deviceToken: this.token,
          hours: Number(text('hours')),
          recipient: text('recipient'),
          order: text('order'),
          notes: text('notes'),
          destination: pin === null ? null : { ...pin, label: text('label') },
          show: this.show,
        })
      } finally {
        this.busy = false
      }
      this.said = ''
      this.emit('link-created', this.made)
      await this.updateComplete
      this.renderRoot.querySelector<HTMLElement>('#copy')?.focus()
      await this.load()
    })
  }

  private async end(link: Link): Promise<void> {
    await this.attempt(async () => {
      await this.api.endLink(link.id)
      this.said = fill(this.t.ended, { name: this.nameOf(link) })
      if (this.made?.id === link.id) this.again()
      await this.load()
    })
  }

  private async copy(link: Link): Promise<void> {
    await copyText(link.url, this.renderRoot)
    this.copied = link.id
    this.said = this.t.copied
    setTimeout(() => {
      if (this.copied === link.id) this.copied = null
      if (this.said === this.t.copied) this.said = ''
    }, COPIED_MS)
  }

  private again(): void {
    this.made = null
    this.emit('pin-remove')
  }

  /** Says kindly what went wrong; anything but an ApiError is a bug and goes up. */
  private async attempt(work: () => Promise<void>): Promise<void> {
    this.problem = null
    try {
      await work()
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      const { t } = this
      if (error.refusal === 'expired') this.emit('auth-required')
      if (error.refusal === 'limit') void this.load()
      this.problem = {
        expired: t.expired,
        forbidden: t.forbidden,
        busy: t.busy,
        limit: fill(t.limit, { limit: String(this.limit) }),
        invalid: fill(t.invalid, { detail: error.detail }),
        unreachable: t.unreachable,
      }[error.refusal]
    }
  }

  private key(event: KeyboardEvent): void {
    if (event.key === 'Escape') this.emit('drawer-close')
  }

  private emit(name: string, detail?: unknown): void {
    this.dispatchEvent(new CustomEvent(name, { detail }))
  }
}
