import { html, nothing, type TemplateResult } from 'lit'
import { fill, type Format } from '../common/format'
import type { TrackerTexts } from '../i18n/tracker/texts'
import type { Device, Fleet } from './fleet'
import { icons } from './icons'

const JUST_NOW_S = 20
const STANDING_MPS = 0.8

/** What it takes to speak of a device. */
export interface Words {
  t: TrackerTexts
  format: Format
  fleet: Fleet
  /** unix seconds */
  nowS: number
}

/** A line of the list. */
export function deviceRow(device: Device, words: Words, selected: boolean, onSelect: () => void): TemplateResult {
  const { fix } = device
  const stale = words.fleet.isStale(device, words.nowS)
  const moving = fix !== null && fix.heading !== null && (fix.speed === null || fix.speed >= STANDING_MPS)
  return html`
    <li>
      <button type="button" class="row ${stale ? 'stale' : ''}" data-token=${device.token} aria-current=${selected ? 'true' : 'false'} @click=${onSelect}>
        <span class="disc">${moving && fix.heading !== null ? icons.arrow(fix.heading) : icons.dot}</span>
        <span class="who"><b dir="auto">${device.name}</b><small>${seen(device, words, stale)}</small></span>
        <span class="speed">${fix === null || stale ? nothing : speed(fix.speed, words)}</span>
      </button>
    </li>
  `
}

/** The card of the selected device. It is docked: a target that rides on a marker moves under the finger. */
export function deviceCard(device: Device, words: Words, onShare: () => void, onClose: () => void): TemplateResult {
  const { t, format } = words
  const { fix } = device
  const stale = words.fleet.isStale(device, words.nowS)
  return html`
    <div class="card" role="group" aria-label=${device.name}>
      <header>
        <h3 dir="auto">${device.name}</h3>
        <button type="button" class="icon" aria-label=${t.close} @click=${onClose}>${icons.close}</button>
      </header>
      <dl>
        ${fix === null || fix.speed === null || stale ? nothing : html`<div><dt>${t.speed}</dt><dd>${speed(fix.speed, words)}</dd></div>`}
        ${fix === null || fix.heading === null || stale ? nothing : html`<div><dt>${t.heading}</dt><dd>${format.compass(fix.heading, t.compass)}</dd></div>`}
        <div><dt>${t.updated}</dt><dd>${age(device, words)}</dd></div>
      </dl>
      <button type="button" class="primary" id="share" @click=${onShare}>${icons.share} ${t.share}</button>
    </div>
  `
}

function seen(device: Device, words: Words, stale: boolean): string {
  return stale ? fill(words.t.lastSeen, { ago: age(device, words) }) : age(device, words)
}

function age({ fix }: Device, { t, format, nowS }: Words): string {
  if (fix === null) return t.noPosition
  const seconds = nowS - fix.timestamp
  return seconds < JUST_NOW_S ? t.justNow : format.ago(seconds)
}

function speed(mps: number | null, { t, format }: Words): string {
  if (mps === null) return ''
  return mps < STANDING_MPS ? t.stopped : format.speed(mps)
}
