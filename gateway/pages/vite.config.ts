import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'
import { defineConfig, type Plugin } from 'vite'
import { shareTexts } from './src/i18n/index.ts'

const OUT = join(import.meta.dirname, '../waybridge/web/dist')
const COMPRESSED = /\.(js|css|svg)$/
const WORTH_BYTES = 512

/** What the server reads: the dictionaries, and the names that the build gave to what it must link to. */
function forTheServer(): Plugin {
  return {
    name: 'for-the-server',
    generateBundle(_options, bundle) {
      const tracker = Object.values(bundle).find((item) => item.type === 'chunk' && item.isEntry && item.name === 'live-tracker')
      if (tracker === undefined) this.error('the build has no live-tracker entry')
      const names = { live_tracker: tracker.fileName }
      this.emitFile({ type: 'asset', fileName: 'build.json', source: JSON.stringify(names) })
      this.emitFile({ type: 'asset', fileName: 'texts.json', source: JSON.stringify(shareTexts) })
    },
  }
}

/** A .br and a .gz beside every text asset; the server picks by Accept-Encoding. */
function precompressed(): Plugin {
  return {
    name: 'precompressed',
    closeBundle() {
      const folder = join(OUT, 'assets')
      for (const name of readdirSync(folder)) {
        if (!COMPRESSED.test(name)) continue
        const bytes = readFileSync(join(folder, name))
        if (bytes.length < WORTH_BYTES) continue
        writeFileSync(join(folder, `${name}.br`), brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }))
        writeFileSync(join(folder, `${name}.gz`), gzipSync(bytes, { level: 9 }))
      }
    },
  }
}

export default defineConfig({
  base: './',
  build: {
    outDir: OUT,
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1200,
    rollupOptions: {
      input: {
        share: 'share.html',
        gone: 'gone.html',
        tracker: 'tracker.html',
        'live-tracker': 'src/tracker/live-tracker.ts',
      },
    },
  },
  worker: { format: 'es' },
  plugins: [forTheServer(), precompressed()],
  test: { environment: 'node', include: ['tests/**/*.test.ts'] },
} as Parameters<typeof defineConfig>[0])
