import type { ShareTexts } from '../i18n/share'
import type { MapConfig } from '../map/config'

/** Colours that the server checked for contrast: on white or on the dark ground, and the text upon each. */
export interface Brand {
  name: string
  light: string
  dark: string
  on_light: string
  on_dark: string
}

/** What the HTML carries. No position, name, note or label: those come by REST and WebSocket alone. */
export interface Boot {
  /** absolute base of the API where it lives on another host; null is this one */
  api: string | null
  language: string
  server_time: number
  brand: Brand
  map: MapConfig
  texts: ShareTexts
  /** first delay of the reconnect ladder */
  reconnect_ms: number
}

export function readBoot(): Boot {
  const element = document.getElementById('boot')
  if (element?.textContent == null) throw new Error('the page lacks its boot data')
  return JSON.parse(element.textContent) as Boot
}
