import type { FilterSpecification, LayerSpecification, SourceSpecification, StyleSpecification } from 'maplibre-gl'
import type { MapConfig } from './config'
import { DARK, LIGHT, type Palette } from './palette'

/** Above this zoom the coarse world gives way: its water would flood coastal streets. */
const WORLD_UNTIL = 10
const WORLD_MAXZOOM = 5
const OPENFREEMAP = 'https://tiles.openfreemap.org/planet'
const NAME = ['coalesce', ['get', 'name:latin'], ['get', 'name']] as unknown as string
/** No glyph URL is set, so every letter is drawn from the reader's own fonts. */
const REGULAR = ['Regular']
const MEDIUM = ['Medium']

/** The whole style as pure JSON: no sprite, no glyph server, no third party unless the operator names one. */
export function styleOf(config: MapConfig, dark: boolean, tiles: string): StyleSpecification | string {
  if (config.kind === 'style' && config.url !== null) return config.url
  const p = dark ? DARK : LIGHT
  const sources: Record<string, SourceSpecification> = {
    world: { type: 'vector', tiles: [`${tiles}/world/{z}/{x}/{y}.mvt`], maxzoom: WORLD_MAXZOOM },
    grid: { type: 'geojson', data: { type: 'FeatureCollection', features: [] } },
  }
  const layers: LayerSpecification[] = [...ground(p), ...grid(p)]
  if (config.kind === 'raster' && config.url !== null) {
    sources['streets'] = { type: 'raster', tiles: [config.url], tileSize: 256, maxzoom: 19 }
    layers.push({ id: 'streets', type: 'raster', source: 'streets', ...(dark ? { paint: DIMMED } : {}) })
    return { version: 8, sources, layers }
  }
  if (config.kind === 'openfreemap') {
    sources['streets'] = { type: 'vector', url: OPENFREEMAP }
  } else if (config.kind === 'pmtiles') {
    sources['streets'] = {
      type: 'vector',
      tiles: [`${tiles}/streets/{z}/{x}/{y}.mvt`],
      minzoom: config.minzoom,
      maxzoom: config.maxzoom,
      ...(config.bounds === null ? {} : { bounds: config.bounds }),
    }
  }
  if (sources['streets'] !== undefined) layers.push(...(config.schema === 'protomaps' ? protomaps(p) : openmaptiles(p)))
  layers.push(...worldNames(p))
  return { version: 8, sources, layers }
}

const DIMMED = { 'raster-brightness-max': 0.55, 'raster-saturation': -0.5, 'raster-contrast': 0.1 }

function ground(p: Palette): LayerSpecification[] {
  return [
    // water below the world's land at low zooms, land colour where only streets (or nothing) is drawn
    { id: 'ground', type: 'background', paint: { 'background-color': ['step', ['zoom'], p.water, WORLD_UNTIL, p.land] } },
    { id: 'world-land', type: 'fill', source: 'world', 'source-layer': 'land', maxzoom: WORLD_UNTIL, paint: { 'fill-color': p.land } },
    {
      id: 'world-borders',
      type: 'line',
      source: 'world',
      'source-layer': 'borders',
      maxzoom: WORLD_UNTIL,
      paint: { 'line-color': p.border, 'line-width': wide(1, 0.5, 9, 1.4) as number, 'line-dasharray': [4, 2] },
    },
  ]
}

function grid(p: Palette): LayerSpecification[] {
  return [
    {
      id: 'grid',
      type: 'line',
      source: 'grid',
      minzoom: WORLD_UNTIL,
      paint: {
        'line-color': ['case', ['get', 'heavy'], p.gridHeavy, p.grid],
        'line-width': ['case', ['get', 'heavy'], 2, 1],
      },
    },
  ]
}

function worldNames(p: Palette): LayerSpecification[] {
  const names = (id: string, layer: string, size: unknown, color: string, font: string[], upto: number): LayerSpecification => ({
    id,
    type: 'symbol',
    source: 'world',
    'source-layer': layer,
    maxzoom: upto,
    layout: {
      'text-field': ['get', 'name'],
      'text-font': font,
      'text-size': size as number,
      'text-max-width': 7,
      'symbol-sort-key': ['get', 'rank'],
      'text-padding': 6,
    },
    paint: { 'text-color': color, 'text-halo-color': p.halo, 'text-halo-width': 1.4 },
  })
  return [
    names('world-cities', 'cities', wide(3, 11, 9, 15), p.placeText, REGULAR, WORLD_UNTIL),
    names('world-countries', 'countries', wide(2, 11, 6, 16), p.text, MEDIUM, 7),
  ]
}

/** Layers of the OpenMapTiles schema (own tiles of tilemaker or planetiler, OpenFreeMap). */
function openmaptiles(p: Palette): LayerSpecification[] {
  const road = (...classes: string[]): FilterSpecification => ['in', ['get', 'class'], ['literal', classes]]
  return [
    fill('landcover', 'landcover', p.landcover, ['in', ['get', 'class'], ['literal', ['wood', 'grass', 'farmland', 'wetland']]]),
    fill('landuse', 'landuse', p.landcover, ['in', ['get', 'class'], ['literal', ['cemetery', 'pitch', 'stadium', 'playground']]]),
    fill('grass', 'landcover', p.park, ['in', ['get', 'class'], ['literal', ['grass', 'wood']]]),
    fill('park', 'park', p.park),
    fill('water', 'water', p.water),
    line('waterway', 'waterway', p.water, wide(9, 0.5, 16, 4)),
    fill('aeroway', 'aeroway', p.building),
    fill('building', 'building', p.building, undefined, p.buildingLine, 13),
    line('path', 'transportation', p.path, wide(14, 0.6, 19, 2.5), road('path', 'pedestrian'), 14, [2, 1.5]),
    line('rail', 'transportation', p.rail, wide(12, 0.6, 17, 1.8), road('rail', 'transit'), 11),
    ...streets(p, 'transportation', [
      ['service', road('service', 'track'), 13, wide(13, 0.6, 18, 9)],
      ['minor', road('minor', 'residential', 'living_street', 'unclassified'), 11, wide(11, 0.6, 18, 18)],
      ['secondary', road('secondary', 'tertiary'), 8, wide(8, 0.6, 18, 24)],
      ['primary', road('primary', 'trunk', 'motorway'), 4, wide(5, 0.6, 18, 30)],
    ]),
    line('boundary', 'boundary', p.border, wide(3, 0.6, 12, 1.6), ['<=', ['get', 'admin_level'], 4], 0, [4, 2]),
    roadNames('road-name', 'transportation_name', p),
    placeNames('water-name', 'water_name', p.waterText, p, 13),
    placeNames('place', 'place', p.placeText, p, 4),
  ]
}

/** Layers of the Protomaps basemap schema. */
function protomaps(p: Palette): LayerSpecification[] {
  const kind = (...kinds: string[]): FilterSpecification => ['in', ['get', 'kind'], ['literal', kinds]]
  return [
    fill('earth', 'earth', p.land),
    fill('landcover', 'landcover', p.landcover, kind('forest', 'grassland', 'farmland')),
    fill('landuse', 'landuse', p.park, kind('park', 'wood', 'forest', 'nature_reserve', 'cemetery', 'garden', 'grass', 'golf_course')),
    fill('water', 'water', p.water, ['==', ['geometry-type'], 'Polygon']),
    line('waterway', 'water', p.water, wide(9, 0.5, 16, 4), ['==', ['geometry-type'], 'LineString']),
    fill('building', 'buildings', p.building, undefined, p.buildingLine, 13),
    line('path', 'roads', p.path, wide(14, 0.6, 19, 2.5), kind('path', 'other'), 14, [2, 1.5]),
    line('rail', 'roads', p.rail, wide(12, 0.6, 17, 1.8), kind('rail'), 11),
    ...streets(p, 'roads', [
      ['minor', kind('minor_road'), 11, wide(11, 0.6, 18, 18)],
      ['secondary', kind('medium_road'), 8, wide(8, 0.6, 18, 24)],
      ['primary', kind('major_road', 'highway'), 4, wide(5, 0.6, 18, 30)],
    ]),
    line('boundary', 'boundaries', p.border, wide(3, 0.6, 12, 1.6), undefined, 0, [4, 2]),
    roadNames('road-name', 'roads', p),
    placeNames('place', 'places', p.placeText, p, 4),
  ]
}

type Street = [id: string, filter: FilterSpecification, minzoom: number, width: unknown]

/** All casings lie below all surfaces, so crossings look joined. */
function streets(p: Palette, layer: string, kinds: Street[]): LayerSpecification[] {
  const round = { 'line-cap': 'round', 'line-join': 'round' } as const
  const colours = (id: string): [string, string] => (id === 'primary' || id === 'secondary' ? [p.major, p.majorLine] : [p.minor, p.minorLine])
  return [
    ...kinds.map(([id, filter, minzoom, width]): LayerSpecification => ({
      id: `${id}-case`, type: 'line', source: 'streets', 'source-layer': layer, filter, minzoom, layout: round,
      paint: { 'line-color': colours(id)[1], 'line-width': 1.5, 'line-gap-width': width as number },
    })),
    ...kinds.map(([id, filter, minzoom, width]): LayerSpecification => ({
      id, type: 'line', source: 'streets', 'source-layer': layer, filter, minzoom, layout: round,
      paint: { 'line-color': colours(id)[0], 'line-width': width as number },
    })),
  ]
}

function fill(id: string, layer: string, color: string, filter?: FilterSpecification, outline?: string, minzoom = 0): LayerSpecification {
  return {
    id, type: 'fill', source: 'streets', 'source-layer': layer, minzoom, ...(filter === undefined ? {} : { filter }),
    paint: { 'fill-color': color, ...(outline === undefined ? {} : { 'fill-outline-color': outline }) },
  }
}

function line(id: string, layer: string, color: string, width: unknown, filter?: FilterSpecification, minzoom = 0, dash?: number[]): LayerSpecification {
  return {
    id, type: 'line', source: 'streets', 'source-layer': layer, minzoom, ...(filter === undefined ? {} : { filter }),
    paint: { 'line-color': color, 'line-width': width as number, ...(dash === undefined ? {} : { 'line-dasharray': dash }) },
  }
}

function roadNames(id: string, layer: string, p: Palette): LayerSpecification {
  return {
    id, type: 'symbol', source: 'streets', 'source-layer': layer, minzoom: 13,
    layout: { 'symbol-placement': 'line', 'text-field': NAME, 'text-font': REGULAR, 'text-size': wide(13, 10, 18, 14) as number, 'text-padding': 4, 'symbol-spacing': 350 },
    paint: { 'text-color': p.text, 'text-halo-color': p.halo, 'text-halo-width': 1.5 },
  }
}

function placeNames(id: string, layer: string, color: string, p: Palette, minzoom: number): LayerSpecification {
  return {
    id, type: 'symbol', source: 'streets', 'source-layer': layer, minzoom,
    filter: ['==', ['geometry-type'], 'Point'],
    layout: { 'text-field': NAME, 'text-font': REGULAR, 'text-size': wide(5, 12, 16, 16) as number, 'text-max-width': 8, 'text-padding': 8 },
    paint: { 'text-color': color, 'text-halo-color': p.halo, 'text-halo-width': 1.6 },
  }
}

/** A width or size that grows from one zoom to another. */
function wide(fromZoom: number, from: number, toZoom: number, to: number): unknown {
  return ['interpolate', ['exponential', 1.5], ['zoom'], fromZoom, from, toZoom, to]
}
