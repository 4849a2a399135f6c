import { LngLatBounds, Marker, type GeoJSONSource, type LngLatLike, type Map as MapLibre, type PaddingOptions } from 'maplibre-gl'
import { Glide, type Arrival } from '../common/glide'
import { shortestTurn, type Place } from '../common/place'
import type { Credit, MapConfig } from './config'
import { creditsOf } from './credits'
import { gridOver } from './grid'
import { startMap } from './start'
import { styleOf } from './style'
import { teardrop } from './teardrop'

const FIRST_ZOOM_AT_MOST = 16
const CENTRE_ZOOM_AT_LEAST = 15.5
const EDGE_PX = 36
const FOLLOW_EASE_MS = 900
const STANDING_MPS = 0.8
const SMALLEST_VIEW_PX = 120

export interface LiveMapOptions {
  container: HTMLElement
  config: MapConfig
  /** URL of `/tiles`, absolute */
  tiles: string
  dark: boolean
  label: string
  driverLabel: string
  destinationLabel: string
  still: () => boolean
  onFollow: (on: boolean) => void
  onReady: () => void
  onView: (metresPerPx: number, grid: boolean) => void
  onCredits: (credits: Credit[]) => void
}

/** The map behind ten methods, so that another engine could take its place. */
export class LiveMap {
  private readonly map: MapLibre
  private readonly glide = new Glide()
  private readonly puck: HTMLElement
  private readonly arrow: HTMLElement
  private readonly pin: HTMLElement
  private readonly driverMarker: Marker
  private readonly destinationMarker: Marker
  private driverShown = false
  private destinationShown = false
  private target: Place | null = null
  private turnDeg = 0
  private following = true
  private easing = false
  private firstView = true
  /** whether the camera still shows the route as `fit` left it */
  private fitted = false
  private frame = 0
  private padding: PaddingOptions = { top: 0, right: 0, bottom: 0, left: 0 }

  constructor(private readonly options: LiveMapOptions) {
    this.map = startMap({ container: options.container, style: styleOf(options.config, options.dark, options.tiles), center: [10, 30], zoom: 1.2 })
    this.puck = element('puck', options.driverLabel)
    this.arrow = document.createElement('span')
    this.arrow.className = 'puck-arrow'
    this.puck.append(span('puck-halo'), span('puck-ring'), this.arrow)
    this.pin = element('pin', options.destinationLabel)
    this.pin.append(teardrop())
    this.driverMarker = new Marker({ element: this.puck, subpixelPositioning: true })
    this.destinationMarker = new Marker({ element: this.pin, anchor: 'bottom' })
    this.listen()
  }

  /** A new fix: glides there, turns the arrow the short way, and keeps the driver in sight while following. */
  driver(arrival: Arrival, headingDeg: number | null): void {
    this.turn(headingDeg, arrival.speed)
    const now = performance.now()
    if (this.glide.arrive(arrival, now)) this.animate()
    const at = this.glide.at(now) ?? arrival.place
    this.driverMarker.setLngLat(lngLat(at))
    if (!this.driverShown) {
      this.driverShown = true
      this.driverMarker.addTo(this.map)
      this.firstFit()
    }
    this.keepInSight()
  }

  removeDriver(): void {
    this.driverShown = false
    this.driverMarker.remove()
    this.glide.clear()
  }

  destination(place: Place | null): void {
    const moved = place?.latitude !== this.target?.latitude || place?.longitude !== this.target?.longitude
    this.target = place
    if (place === null) {
      this.destinationShown = false
      this.destinationMarker.remove()
      return
    }
    this.destinationMarker.setLngLat(lngLat(place))
    if (!this.destinationShown) {
      this.destinationShown = true
      this.destinationMarker.addTo(this.map)
    }
    if (moved) this.firstFit()
  }

  stale(stale: boolean): void {
    this.puck.classList.toggle('is-stale', stale)
  }

  /** Both ends of the route in the free part of the map. */
  fit(animate = true): void {
    const here = this.here()
    const places = [here, this.target].filter((place): place is Place => place !== null)
    if (places.length === 0 || !this.roomToFit()) return
    const bounds = new LngLatBounds()
    this.fitted = true
    for (const place of places) bounds.extend(lngLat(place) as [number, number])
    this.easeTo(() => this.map.fitBounds(bounds, { padding: this.inset(44), maxZoom: FIRST_ZOOM_AT_MOST, duration: animate && !this.options.still() ? 700 : 0 }))
  }

  /** Driver in the middle of the free part, at street zoom or closer; follows from here on. */
  center(): void {
    const here = this.here() ?? this.target
    if (here === null) return
    this.setFollow(true)
    this.fitted = false
    const zoom = Math.max(this.map.getZoom(), CENTRE_ZOOM_AT_LEAST)
    this.easeTo(() => this.map.easeTo({ center: lngLat(here), zoom, offset: this.offset(), duration: this.options.still() ? 0 : 600, essential: true }))
  }

  zoomBy(steps: number): void {
    this.map.easeTo({ zoom: this.map.getZoom() + steps, duration: this.options.still() ? 0 : 250 })
  }

  setFollow(on: boolean): void {
    if (on === this.following) return
    this.following = on
    this.options.onFollow(on)
  }

  /** What the sheet and the pills cover. A whole-route view is fitted anew into what is left; any other rests. */
  setPadding(padding: PaddingOptions): void {
    const before = this.inset(0)
    this.padding = padding
    const { top, right, bottom, left } = this.inset(0)
    if (top === before.top && right === before.right && bottom === before.bottom && left === before.left) return
    if (this.firstView) this.firstFit()
    else if (this.fitted && this.following) this.fit()
    else this.keepInSight()
  }

  setDark(dark: boolean): void {
    this.map.setStyle(styleOf(this.options.config, dark, this.options.tiles))
  }

  /** The tab is visible again: what could not be seen to move is where it is. */
  settle(): void {
    this.glide.settle()
    this.animate()
  }

  destroy(): void {
    cancelAnimationFrame(this.frame)
    this.map.remove()
  }

  private listen(): void {
    const { map, options } = this
    const byHand = (event: { originalEvent?: unknown }): void => {
      if (event.originalEvent === undefined) return
      this.fitted = false
      this.setFollow(false)
    }
    map.on('dragstart', byHand)
    map.on('zoomstart', byHand)
    map.on('rotatestart', byHand)
    map.once('idle', () => options.onReady())
    map.on('moveend', () => this.look())
    map.on('load', () => this.look())
    map.on('styledata', () => this.look())
    map.on('sourcedata', (event) => {
      if (event.sourceDataType === 'metadata') options.onCredits(this.credits())
    })
    map.getCanvas().setAttribute('aria-label', options.label)
    map.getCanvas().setAttribute('role', 'application')
    map.touchZoomRotate.disableRotation()
    map.keyboard.disableRotation()
  }

  /** Draws the grid where there are no streets, and tells the scale. */
  private look(): void {
    const { map, options } = this
    const source = map.getSource<GeoJSONSource>('grid')
    const center = map.getCenter()
    const { latitude, longitude } = this.here() ?? this.target ?? { latitude: center.lat, longitude: center.lng }
    const bare = options.config.kind === 'builtin' || (options.config.kind === 'pmtiles' && !inside(options.config.bounds, longitude, latitude))
    const grid = bare && map.getZoom() >= 10
    if (source !== undefined) {
      source.setData(grid ? gridOver(map.getBounds(), map.getZoom()) : { type: 'FeatureCollection', features: [] })
    }
    options.onView((Math.cos((center.lat * Math.PI) / 180) * 40_075_016.686) / (512 * 2 ** map.getZoom()), grid)
  }

  private animate(): void {
    cancelAnimationFrame(this.frame)
    const step = (): void => {
      const now = performance.now()
      const at = this.glide.at(now)
      if (at === null) return
      this.driverMarker.setLngLat(lngLat(at))
      if (this.glide.moving(now)) this.frame = requestAnimationFrame(step)
    }
    step()
  }

  private turn(headingDeg: number | null, speed: number | null): void {
    const standing = headingDeg === null || (speed !== null && speed < STANDING_MPS)
    this.puck.classList.toggle('is-dot', standing)
    if (headingDeg === null) return
    this.turnDeg += shortestTurn(this.turnDeg, headingDeg)
    this.arrow.style.transform = `rotate(${this.turnDeg}deg)`
  }

  private firstFit(): void {
    if (!this.firstView || !this.following || !this.roomToFit()) return
    if (!this.driverShown && this.target === null) return
    this.fit(false)
    if (this.driverShown) this.firstView = false
  }

  /** One ease when the driver nears the edge of the free part; then the camera rests again. */
  private keepInSight(): void {
    const goal = this.driverShown ? this.glide.goal : null
    if (!this.following || this.easing || goal === null) return
    const box = this.map.getContainer()
    const at = this.map.project(lngLat(goal))
    const { top, right, bottom, left } = this.inset(0)
    const out = at.x < left + EDGE_PX || at.x > box.clientWidth - right - EDGE_PX || at.y < top + EDGE_PX || at.y > box.clientHeight - bottom - EDGE_PX
    if (!out) return
    this.fitted = false
    this.easeTo(() => this.map.easeTo({ center: lngLat(goal), offset: this.offset(), duration: this.options.still() ? 0 : FOLLOW_EASE_MS, essential: true }))
  }

  private easeTo(start: () => void): void {
    this.easing = true
    this.map.once('moveend', () => (this.easing = false))
    start()
  }

  private here(): Place | null {
    return this.driverShown ? this.glide.at(performance.now()) : null
  }

  private roomToFit(): boolean {
    const box = this.map.getContainer()
    const { top, right, bottom, left } = this.inset(44)
    return box.clientWidth - left - right > SMALLEST_VIEW_PX && box.clientHeight - top - bottom > SMALLEST_VIEW_PX / 2
  }

  /** From the middle of the canvas to the middle of its free part. */
  private offset(): [number, number] {
    const { top, right, bottom, left } = this.inset(0)
    return [(left - right) / 2, (top - bottom) / 2]
  }

  private inset(by: number): Required<PaddingOptions> {
    const { top = 0, right = 0, bottom = 0, left = 0 } = this.padding
    return { top: top + by, right: right + by, bottom: bottom + by, left: left + by }
  }

  private credits(): Credit[] {
    const found: Credit[] = []
    for (const id of Object.keys(this.map.getStyle().sources)) {
      const attribution = this.map.getSource(id)?.attribution
      if (attribution) found.push(...creditsOf(attribution))
    }
    return found
  }
}

function inside(bounds: MapConfig['bounds'], longitude: number, latitude: number): boolean {
  if (bounds === null) return true
  const [west, south, east, north] = bounds
  return longitude >= west && longitude <= east && latitude >= south && latitude <= north
}

function lngLat(place: Place): LngLatLike {
  return [place.longitude, place.latitude]
}

function element(name: string, label: string): HTMLElement {
  const made = document.createElement('div')
  made.className = name
  made.setAttribute('role', 'img')
  made.setAttribute('aria-label', label)
  return made
}

function span(name: string): HTMLElement {
  const made = document.createElement('span')
  made.className = name
  return made
}
