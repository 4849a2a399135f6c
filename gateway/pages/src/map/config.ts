/** What the server says about the base map; the same for every token, so it carries nothing personal. */
export interface MapConfig {
  kind: 'builtin' | 'pmtiles' | 'openfreemap' | 'style' | 'raster'
  /** vector schema of the streets: OpenMapTiles, or that of Protomaps */
  schema: 'openmaptiles' | 'protomaps' | null
  /** style document, raster template or TileJSON, by kind */
  url: string | null
  /** of own streets: [west, south, east, north] in degrees */
  bounds: [number, number, number, number] | null
  minzoom: number
  maxzoom: number
  attribution: Credit[]
}

export interface Credit {
  text: string
  href: string | null
}
