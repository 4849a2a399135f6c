import type { Credit } from '../map/config'
import type { ShareTexts } from '../i18n/share'
import type { Boot } from './boot'
import type { Screen } from './screen'
import type { Card } from './state'

/** The line with the map's credits, just above the sheet. */
const CREDIT_PX = 34
/** what the round buttons need at their side, beyond the inset of a fitted route */
const TOOLS_PX = 36

export interface CardTexts {
  kind: string
  title: string
  text: string
  wait: string | null
  action: string | null
}

/** The DOM of the share page. All user text goes in by `textContent`; nothing here decides what is said. */
export class View {
  private readonly root = document.documentElement
  private readonly page = must('page')
  private readonly panel = must('panel')
  private cardKind: string | null = null

  constructor(
    private readonly t: ShareTexts,
    boot: Boot,
  ) {
    const { brand } = boot
    this.root.style.setProperty('--brand-light', brand.light)
    this.root.style.setProperty('--brand-dark', brand.dark)
    this.root.style.setProperty('--on-light', brand.on_light)
    this.root.style.setProperty('--on-dark', brand.on_dark)
    label('grip', t.showDetails)
    label('journey', t.journey)
    for (const [id, text] of [['in', t.zoomIn], ['out', t.zoomOut], ['fit', t.fit], ['centre', t.centre]] as const) {
      label(id, text)
      must(id).title = text
    }
    label('credit', t.attribution)
    must('credit').setAttribute('role', 'group')
    must('speed').querySelector('small')!.textContent = t.speed
    must('heading').querySelector('small')!.textContent = t.heading
    must('order').querySelector('span')!.textContent = t.order
    const steps = [t.stepOnTheWay, t.stepPickup, t.stepTrip, t.stepArrived]
    must('journey').querySelectorAll('li').forEach((item, i) => (item.textContent = steps[i] ?? ''))
    this.credits(boot.map.attribution)
    const observer = new ResizeObserver(() => this.measured())
    observer.observe(this.panel)
  }

  /** Called when what covers the map has changed. */
  onCovered: (() => void) | null = null

  draw(screen: Screen): void {
    const conn = must('conn')
    // the live region speaks on a change of state, never on a tick
    if (conn.dataset['state'] !== screen.pill.state) {
      conn.dataset['state'] = screen.pill.state
      conn.dataset['tone'] = screen.pill.tone
      write(conn.querySelector('.text')!, screen.pill.text)
    }
    const headline = must('headline')
    write(headline, screen.headline.text)
    headline.classList.toggle('state', !screen.headline.big)
    write(must('subline'), screen.subline)
    this.journey(screen.step)
    this.driver(screen)
    this.note(screen)
    const place = must('place')
    place.hidden = screen.destination === null
    write(place.querySelector('small')!, screen.destination?.title ?? '')
    write(place.querySelector('.label')!, screen.destination?.label ?? '')
    const order = must('order')
    order.hidden = screen.order === null
    write(order.querySelector('bdi')!, screen.order ?? '')
    const privacy = must('privacy')
    privacy.hidden = screen.privacy === null
    write(privacy, screen.privacy ?? '')
  }

  /** Shows a card over the page, or takes it away. The page below is inert, and focus is in the dialog. */
  card(card: Card | null, texts: CardTexts | null): void {
    const veil = must('veil')
    if (card === null || texts === null) {
      if (this.cardKind === null) return
      this.cardKind = null
      veil.hidden = true
      this.page.inert = false
      this.panel.focus({ preventScroll: true })
      return
    }
    write(must('card-title'), texts.title)
    write(must('card-text'), texts.text)
    const wait = must('card-wait')
    wait.hidden = texts.wait === null
    write(wait, texts.wait ?? '')
    const again = must('again')
    again.hidden = texts.action === null
    write(again, texts.action ?? '')
    if (this.cardKind === texts.kind) return
    this.cardKind = texts.kind
    veil.querySelector<HTMLElement>('.sign')!.dataset['kind'] = texts.kind
    veil.hidden = false
    this.page.inert = true
    must('card').focus()
  }

  /** After an end nothing personal stays in the document. */
  wipe(): void {
    this.root.classList.add('ended')
    for (const id of ['headline', 'subline']) write(must(id), '')
    for (const id of ['driver', 'note', 'more', 'journey', 'nomap']) must(id).remove()
    must('tools').hidden = true
  }

  title(text: string): void {
    document.title = text
  }

  follow(on: boolean): void {
    must('centre').setAttribute('aria-pressed', String(on))
  }

  tools(shown: boolean): void {
    must('tools').hidden = !shown
  }

  /** Fitting needs two ends: without a destination there is nothing to fit. */
  canFit(on: boolean): void {
    must('fit').hidden = !on
  }

  noMap(place: { latitude: number; longitude: number } | null): void {
    const box = must('nomap')
    box.hidden = false
    write(box.querySelector('span')!, this.t.noMap)
    const link = box.querySelector('a')!
    link.hidden = place === null
    if (place === null) return
    link.href = `geo:${place.latitude},${place.longitude}?q=${place.latitude},${place.longitude}`
    write(link, this.t.openMaps)
  }

  scale(px: number | null, text: string): void {
    const bar = must('scale')
    bar.hidden = px === null
    if (px === null) return
    bar.style.width = `${Math.round(px)}px`
    write(bar.firstElementChild!, text)
  }

  credits(credits: Credit[]): void {
    const box = must('credit')
    box.replaceChildren(...credits.map(creditNode))
    box.hidden = credits.length === 0
  }

  private journey(step: number | null): void {
    const list = must('journey')
    list.hidden = step === null
    list.querySelectorAll('li').forEach((item, i) => {
      item.classList.toggle('done', step !== null && i < step)
      if (i === step) item.setAttribute('aria-current', 'step')
      else item.removeAttribute('aria-current')
    })
  }

  private driver({ driver, speed, heading }: Screen): void {
    const row = must('driver')
    row.hidden = driver === null
    this.panel.classList.toggle('loaded', driver !== null)
    if (driver === null) return
    row.classList.toggle('warned', driver.warn)
    write(row.querySelector('strong')!, driver.name)
    write(row.querySelector('.seen')!, driver.line)
    row.querySelector<SVGElement>('.avatar svg')!.style.display = driver.initials === '' ? '' : 'none'
    write(row.querySelector('.avatar span')!, driver.initials)
    const speedChip = must('speed')
    speedChip.hidden = speed === null
    write(speedChip.querySelector('b')!, speed ?? '')
    const headingChip = must('heading')
    headingChip.hidden = heading === null
    write(headingChip.querySelector('b span')!, heading?.text ?? '')
    if (heading !== null) headingChip.querySelector('svg')!.style.transform = `rotate(${heading.deg}deg)`
    must('chips').hidden = speed === null && heading === null
  }

  private note({ greeting, notes }: Screen): void {
    const note = must('note')
    // a greeting alone is worth its bubble too
    note.hidden = notes === null && greeting === null
    write(note.querySelector('strong')!, greeting ?? '')
    write(note.querySelector('p')!, notes ?? '')
  }

  private measured(): void {
    this.root.style.setProperty('--panel-h', this.floating() ? '0px' : `${Math.round(this.panel.offsetHeight)}px`)
    this.onCovered?.()
  }

  /** What lies over the map, in px from each side. */
  covered(): { top: number; right: number; bottom: number; left: number } {
    const box = this.panel.getBoundingClientRect()
    const pills = Math.round(must('brand').getBoundingClientRect().bottom || must('conn').getBoundingClientRect().bottom) + 12
    const rtl = document.documentElement.dir === 'rtl'
    const beside = { left: rtl ? TOOLS_PX : 0, right: rtl ? 0 : TOOLS_PX }
    if (box.width === 0) return { top: pills, bottom: CREDIT_PX, ...beside }
    if (!this.floating()) return { top: pills, bottom: Math.round(innerHeight - box.top) + CREDIT_PX, ...beside }
    const side = rtl ? Math.round(innerWidth - box.left) : Math.round(box.right)
    return { top: pills, right: rtl ? side : 72, bottom: CREDIT_PX, left: rtl ? 72 : side }
  }

  private floating(): boolean {
    return this.panel.offsetWidth < innerWidth * 0.9
  }
}

function write(node: Element, text: string): void {
  if (node.textContent !== text) node.textContent = text
}

function creditNode(credit: Credit): Node {
  if (credit.href === null) {
    const text = document.createElement('span')
    text.textContent = credit.text
    return text
  }
  const link = document.createElement('a')
  link.textContent = credit.text
  link.href = credit.href
  link.target = '_blank'
  link.rel = 'noopener noreferrer'
  return link
}

function must(id: string): HTMLElement {
  const found = document.getElementById(id)
  if (found === null) throw new Error(`the page lacks #${id}`)
  return found
}

function label(id: string, text: string): void {
  must(id).setAttribute('aria-label', text)
}
