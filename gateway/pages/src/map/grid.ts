import type { FeatureCollection, LineString } from 'geojson'
import type { LngLatBounds } from 'maplibre-gl'

const STEP_PX = 90
const TILE_PX = 512
const HEAVY_EVERY = 5
const MOST_LINES = 200

type Grid = FeatureCollection<LineString, { heavy: boolean }>

/**
 * Lines of about 90 px over the view and its surroundings, every fifth heavier, so that motion stays readable where the
 * base map has no streets. They lie on a fixed lattice of the Mercator square: panning does not move them.
 */
export function gridOver(bounds: LngLatBounds, zoom: number): Grid {
  const level = Math.round(Math.log2((TILE_PX * 2 ** zoom) / STEP_PX))
  const step = 2 ** -level
  const west = mercatorX(bounds.getWest())
  const east = mercatorX(bounds.getEast())
  const north = mercatorY(bounds.getNorth())
  const south = mercatorY(bounds.getSouth())
  const marginX = east - west
  const marginY = south - north
  const [x0, x1] = [Math.floor((west - marginX) / step), Math.ceil((east + marginX) / step)]
  const [y0, y1] = [Math.floor((north - marginY) / step), Math.ceil((south + marginY) / step)]
  const features: Grid['features'] = []
  if (x1 - x0 + y1 - y0 > MOST_LINES) return { type: 'FeatureCollection', features }
  const line = (index: number, coordinates: number[][]): void => {
    features.push({ type: 'Feature', properties: { heavy: index % HEAVY_EVERY === 0 }, geometry: { type: 'LineString', coordinates } })
  }
  for (let x = x0; x <= x1; x++) line(x, [[longitude(x * step), latitude(y0 * step)], [longitude(x * step), latitude(y1 * step)]])
  for (let y = y0; y <= y1; y++) line(y, [[longitude(x0 * step), latitude(y * step)], [longitude(x1 * step), latitude(y * step)]])
  return { type: 'FeatureCollection', features }
}

function mercatorX(degrees: number): number {
  return degrees / 360 + 0.5
}

function mercatorY(degrees: number): number {
  return 0.5 - Math.log(Math.tan(Math.PI / 4 + (degrees * Math.PI) / 360)) / (2 * Math.PI)
}

function longitude(x: number): number {
  return (x - 0.5) * 360
}

function latitude(y: number): number {
  return (Math.atan(Math.exp((0.5 - y) * 2 * Math.PI)) * 360) / Math.PI - 90
}

/** A round length that fits a bar of at most `maxPx`, in metres or feet/miles. */
export function scaleOf(metresPerPx: number, maxPx: number, miles: boolean): { px: number; value: number; unit: 'meter' | 'kilometer' | 'foot' | 'mile' } {
  const longest = metresPerPx * maxPx
  const [unit, size]: ['meter' | 'kilometer' | 'foot' | 'mile', number] = miles
    ? longest >= 1609.344 ? ['mile', 1609.344] : ['foot', 0.3048]
    : longest >= 1000 ? ['kilometer', 1000] : ['meter', 1]
  const most = longest / size
  const power = 10 ** Math.floor(Math.log10(most))
  const value = power * ([5, 2, 1].find((step) => step * power <= most) ?? 1)
  return { px: (value * size) / metresPerPx, value, unit }
}
