import type { FeatureCollection, Point } from 'geojson'
import { LngLatBounds, Marker, type GeoJSONSource, type Map as MapLibre, type MapLayerMouseEvent, type MapMouseEvent } from 'maplibre-gl'
import type { Place } from '../common/place'
import type { Credit, MapConfig } from '../map/config'
import { creditsOf } from '../map/credits'
import { gridOver } from '../map/grid'
import { DARK, LIGHT } from '../map/palette'
import { startMap } from '../map/start'
import { styleOf } from '../map/style'
import { teardrop } from '../map/teardrop'
import type { Device, Fleet } from './fleet'

const ICON_PX = 34
const CLUSTER_RADIUS_PX = 36
const CLUSTER_UNTIL_ZOOM = 13
const FIT_ZOOM_AT_MOST = 15.5
const STANDING_MPS = 0.8

/** Redraws a second: few devices glide, many step. */
function framesPerSecond(devices: number): number {
  if (devices <= 40) return 15
  return devices <= 200 ? 4 : 1
}

export interface FleetMapOptions {
  container: HTMLElement
  config: MapConfig
  tiles: string
  dark: boolean
  color: string
  label: string
  pinLabel: string
  still: () => boolean
  onReady: () => void
  onSelect: (token: string | null) => void
  onPin: (place: Place) => void
  onCredits: (credits: Credit[]) => void
  onView: (bare: boolean) => void
}

export class FleetMap {
  private readonly map: MapLibre
  private timer: ReturnType<typeof setTimeout> | undefined
  private dark: boolean
  private pin: Marker | null = null
  private placing = false
  private fitted = false
  private selected: string | null = null

  constructor(
    private readonly fleet: Fleet,
    private readonly options: FleetMapOptions,
  ) {
    this.dark = options.dark
    this.map = startMap({
      container: options.container,
      style: styleOf(options.config, options.dark, options.tiles),
      center: [10, 30],
      zoom: 1.2,
      // a host's page may lie on another origin and its fonts too
      trackResize: true,
    })
    const { map } = this
    map.on('style.load', () => this.dress())
    map.once('load', () => {
      options.onReady()
      this.loop()
    })
    map.on('click', (event) => this.clicked(event))
    for (const layer of ['devices', 'clusters']) {
      map.on('mouseenter', layer, () => (map.getCanvas().style.cursor = 'pointer'))
      map.on('mouseleave', layer, () => (map.getCanvas().style.cursor = ''))
    }
    map.on('moveend', () => this.look())
    map.on('sourcedata', (event) => {
      if (event.sourceDataType === 'metadata') options.onCredits(this.credits())
    })
    map.getCanvas().setAttribute('aria-label', options.label)
    map.getCanvas().setAttribute('role', 'application')
    map.touchZoomRotate.disableRotation()
    map.keyboard.disableRotation()
  }

  setDark(dark: boolean): void {
    this.dark = dark
    this.map.setStyle(styleOf(this.options.config, dark, this.options.tiles))
  }

  zoomBy(steps: number): void {
    this.map.easeTo({ zoom: this.map.getZoom() + steps, duration: this.options.still() ? 0 : 250 })
  }

  /** All devices that have a position. */
  fit(animate = true): void {
    const bounds = new LngLatBounds()
    for (const { fix } of this.fleet.devices.values()) if (fix !== null) bounds.extend([fix.longitude, fix.latitude])
    if (bounds.isEmpty()) return
    this.fitted = true
    this.map.fitBounds(bounds, { padding: 60, maxZoom: FIT_ZOOM_AT_MOST, duration: animate && !this.options.still() ? 700 : 0 })
  }

  /** Shows one device: into sight when it is out of it, nothing more. */
  select(token: string | null, covered: { right: number; bottom: number }): void {
    this.selected = token
    const fix = token === null ? null : (this.fleet.devices.get(token)?.fix ?? null)
    if (fix !== null) {
      const at = this.map.project([fix.longitude, fix.latitude])
      const box = this.map.getContainer()
      const seen = at.x > 40 && at.x < box.clientWidth - covered.right - 40 && at.y > 40 && at.y < box.clientHeight - covered.bottom - 40
      const near = this.map.getZoom() > CLUSTER_UNTIL_ZOOM
      if (!seen || !near) {
        this.map.easeTo({
          center: [fix.longitude, fix.latitude],
          zoom: Math.max(this.map.getZoom(), CLUSTER_UNTIL_ZOOM + 1),
          offset: [-covered.right / 2, -covered.bottom / 2],
          duration: this.options.still() ? 0 : 600,
        })
      }
    }
    this.draw()
  }

  /** Puts the destination pin where the map is looked at, or takes it away. */
  startPin(covered: { right: number; bottom: number }): void {
    const box = this.map.getContainer()
    const middle = this.map.unproject([(box.clientWidth - covered.right) / 2, (box.clientHeight - covered.bottom) / 2])
    this.placing = true
    this.movePin({ latitude: middle.lat, longitude: middle.lng })
  }

  removePin(): void {
    this.placing = false
    this.pin?.remove()
    this.pin = null
  }

  resize(): void {
    this.map.resize()
  }

  destroy(): void {
    clearTimeout(this.timer)
    this.map.remove()
  }

  private movePin(place: Place): void {
    if (this.pin === null) {
      const element = document.createElement('div')
      element.className = 'pin'
      element.setAttribute('role', 'img')
      element.setAttribute('aria-label', this.options.pinLabel)
      element.append(teardrop())
      this.pin = new Marker({ element, anchor: 'bottom', draggable: true }).setLngLat([place.longitude, place.latitude]).addTo(this.map)
      this.pin.on('dragend', () => {
        const at = this.pin?.getLngLat().wrap()
        if (at !== undefined) this.options.onPin({ latitude: at.lat, longitude: at.lng })
      })
    }
    this.pin.setLngLat([place.longitude, place.latitude])
    this.options.onPin(place)
  }

  private clicked(event: MapMouseEvent): void {
    if (this.placing) {
      const at = event.lngLat.wrap()
      this.movePin({ latitude: at.lat, longitude: at.lng })
      return
    }
    const hit = this.map.queryRenderedFeatures(event.point, { layers: ['devices', 'clusters'] })[0]
    if (hit === undefined) this.options.onSelect(null)
    else if (hit.layer.id === 'devices') this.options.onSelect(String(hit.properties['token']))
    else this.open(hit as unknown as NonNullable<MapLayerMouseEvent['features']>[number])
  }

  private open(cluster: NonNullable<MapLayerMouseEvent['features']>[number]): void {
    const source = this.map.getSource<GeoJSONSource>('fleet')
    if (source === undefined || cluster.geometry.type !== 'Point') return
    const [longitude = 0, latitude = 0] = cluster.geometry.coordinates
    void source.getClusterExpansionZoom(Number(cluster.properties['cluster_id'])).then((zoom) => {
      this.map.easeTo({ center: [longitude, latitude], zoom: zoom + 0.3, duration: this.options.still() ? 0 : 500 })
    })
  }

  /** Icons, source and layers; a new style has none of them. */
  private dress(): void {
    const { map } = this
    const palette = this.dark ? DARK : LIGHT
    for (const [name, color, dot] of [
      ['arrow', this.options.color, false],
      ['dot', this.options.color, true],
      ['stale-arrow', '#7b8594', false],
      ['stale-dot', '#7b8594', true],
    ] as const) {
      if (!map.hasImage(name)) map.addImage(name, icon(color, dot), { pixelRatio: 2 })
    }
    map.addSource('fleet', { type: 'geojson', data: this.features(), cluster: true, clusterRadius: CLUSTER_RADIUS_PX, clusterMaxZoom: CLUSTER_UNTIL_ZOOM })
    map.addLayer({
      id: 'clusters', type: 'circle', source: 'fleet', filter: ['has', 'point_count'],
      paint: { 'circle-color': this.options.color, 'circle-radius': ['step', ['get', 'point_count'], 17, 10, 20, 100, 25], 'circle-stroke-width': 3, 'circle-stroke-color': '#fff' },
    })
    map.addLayer({
      id: 'cluster-count', type: 'symbol', source: 'fleet', filter: ['has', 'point_count'],
      layout: { 'text-field': ['get', 'point_count_abbreviated'], 'text-font': ['Bold'], 'text-size': 13, 'text-allow-overlap': true },
      paint: { 'text-color': '#fff' },
    })
    map.addLayer({
      id: 'selected', type: 'circle', source: 'fleet', filter: ['==', ['get', 'selected'], true],
      paint: { 'circle-radius': 26, 'circle-color': this.options.color, 'circle-opacity': 0.22 },
    })
    map.addLayer({
      id: 'devices', type: 'symbol', source: 'fleet', filter: ['!', ['has', 'point_count']],
      layout: {
        'icon-image': ['get', 'icon'], 'icon-rotate': ['get', 'heading'], 'icon-rotation-alignment': 'map', 'icon-allow-overlap': true, 'icon-ignore-placement': true,
        'text-field': ['get', 'name'], 'text-font': ['Medium'], 'text-size': 12, 'text-offset': [0, 1.5], 'text-anchor': 'top', 'text-allow-overlap': true, 'text-max-width': 9,
      },
      paint: { 'text-color': palette.placeText, 'text-halo-color': palette.halo, 'text-halo-width': 1.6 },
    })
    this.look()
  }

  private loop(): void {
    clearTimeout(this.timer)
    if (!document.hidden) this.draw()
    const rate = this.options.still() ? 1 : framesPerSecond(this.fleet.devices.size)
    this.timer = setTimeout(() => this.loop(), 1000 / rate)
  }

  private draw(): void {
    this.map.getSource<GeoJSONSource>('fleet')?.setData(this.features())
    if (!this.fitted) this.fit(false)
  }

  private features(): FeatureCollection<Point> {
    const now = performance.now()
    const nowS = Date.now() / 1000
    const features: FeatureCollection<Point>['features'] = []
    for (const device of this.fleet.devices.values()) {
      const at = device.glide.at(now)
      if (at === null || device.fix === null) continue
      features.push({
        type: 'Feature',
        geometry: { type: 'Point', coordinates: [at.longitude, at.latitude] },
        properties: {
          token: device.token,
          name: device.name,
          heading: device.fix.heading ?? 0,
          icon: `${this.fleet.isStale(device, nowS) ? 'stale-' : ''}${standing(device) ? 'dot' : 'arrow'}`,
          selected: device.token === this.selected,
        },
      })
    }
    return { type: 'FeatureCollection', features }
  }

  private look(): void {
    const { kind, bounds } = this.options.config
    const { lng, lat } = this.map.getCenter()
    const outside = bounds !== null && (lng < bounds[0] || lat < bounds[1] || lng > bounds[2] || lat > bounds[3])
    const bare = (kind === 'builtin' || (kind === 'pmtiles' && outside)) && this.map.getZoom() >= 10
    this.map.getSource<GeoJSONSource>('grid')?.setData(bare ? gridOver(this.map.getBounds(), this.map.getZoom()) : { type: 'FeatureCollection', features: [] })
    this.options.onView(bare)
  }

  private credits(): Credit[] {
    return Object.keys(this.map.getStyle().sources).flatMap((id) => {
      const attribution = this.map.getSource(id)?.attribution
      return attribution ? creditsOf(attribution) : []
    })
  }
}

function standing({ fix }: Device): boolean {
  return fix === null || fix.heading === null || (fix.speed !== null && fix.speed < STANDING_MPS)
}

/** The puck of the share page, drawn at twice its size. */
function icon(color: string, dot: boolean): ImageData {
  const size = ICON_PX * 2
  const canvas = document.createElement('canvas')
  canvas.width = canvas.height = size
  const pen = canvas.getContext('2d', { willReadFrequently: true })
  if (pen === null) throw new Error('this browser draws no canvas')
  pen.scale(2, 2)
  pen.translate(ICON_PX / 2, ICON_PX / 2)
  pen.shadowColor = 'rgba(17, 21, 28, 0.4)'
  pen.shadowBlur = 3
  pen.shadowOffsetY = 1
  disc(pen, 15, '#fff')
  pen.shadowColor = 'transparent'
  disc(pen, 12.5, color)
  if (dot) {
    disc(pen, 4.5, '#fff')
  } else {
    pen.beginPath()
    pen.moveTo(0, -8)
    pen.lineTo(6, 7)
    pen.lineTo(0, 4)
    pen.lineTo(-6, 7)
    pen.closePath()
    pen.fillStyle = '#fff'
    pen.fill()
  }
  return pen.getImageData(0, 0, size, size)
}

function disc(pen: CanvasRenderingContext2D, radius: number, color: string): void {
  pen.beginPath()
  pen.arc(0, 0, radius, 0, 2 * Math.PI)
  pen.fillStyle = color
  pen.fill()
}
