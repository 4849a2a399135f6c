import { Map as MapLibre, setWorkerUrl, type MapOptions } from 'maplibre-gl'
import workerUrl from 'maplibre-gl/dist/maplibre-gl-worker.mjs?worker&url'

/** The reader's own fonts draw every label; the first of these that is there. */
const FONTS = 'Inter, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Arial, sans-serif'

/** One way to make a map, for both pages. Throws where WebGL 2 is missing. */
export function startMap(options: MapOptions): MapLibre {
  if (document.createElement('canvas').getContext('webgl2') === null) throw new Error('this browser has no WebGL 2')
  setWorkerUrl(new URL(workerUrl, import.meta.url).href)
  return new MapLibre({
    attributionControl: false,
    localIdeographFontFamily: FONTS,
    dragRotate: false,
    pitchWithRotate: false,
    touchPitch: false,
    maxPitch: 0,
    fadeDuration: 150,
    // Safari 18 and 26 lose a high-performance context at once
    canvasContextAttributes: { powerPreference: 'default' },
    ...options,
  })
}
