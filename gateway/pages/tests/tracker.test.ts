// @vitest-environment jsdom
import { describe, expect, it } from 'vitest'
import { english, trackerTexts } from '../src/i18n/tracker'
import { creditsOf } from '../src/map/credits'
import { scaleOf } from '../src/map/grid'
import { Fleet } from '../src/tracker/fleet'

const T0 = 1_776_000_000
const fix = (timestamp: number, latitude = 60): { latitude: number; longitude: number; speed: number; heading: number; timestamp: number } => ({ latitude, longitude: 24, speed: 5, heading: 0, timestamp })
const item = (token: string, name: string, more: object = {}): Parameters<Fleet['replace']>[0][number] => ({ token, name, online: true, stale: false, fix: fix(T0), ...more })

describe('the fleet', () => {
  it('drops fixes that are older than the newest', () => {
    const fleet = new Fleet()
    fleet.report('a', 'Van', fix(T0 + 10, 61), true, 0)
    fleet.report('a', 'Van', fix(T0, 60), true, 1)
    expect(fleet.devices.get('a')?.fix?.latitude).toBe(61)
  })

  it('forgets devices that the API no longer lists, and places that it no longer shows', () => {
    const fleet = new Fleet()
    fleet.replace([item('a', 'A'), item('b', 'B')], 0)
    fleet.replace([item('a', 'A', { fix: null })], 1)
    expect([...fleet.devices.keys()]).toEqual(['a'])
    expect(fleet.devices.get('a')?.glide.at(2)).toBeNull()
  })

  it('finds by every word of the name', () => {
    const fleet = new Fleet()
    fleet.replace([item('1', 'Van 12'), item('2', 'Van 7'), item('3', 'Bike 3')], 0)
    const names = (words: string): string[] => fleet.search(words, new Intl.Collator('en', { numeric: true })).map(({ name }) => name)
    expect(names('')).toEqual(['Bike 3', 'Van 7', 'Van 12'])
    expect(names('van 7')).toEqual(['Van 7'])
    expect(names('none')).toEqual([])
  })

  it('is stale when the API says so or when a live device falls silent', () => {
    const fleet = new Fleet()
    fleet.replace([item('a', 'A', { stale: true })], 0)
    const device = fleet.devices.get('a')!
    expect(fleet.isStale(device, T0)).toBe(true)
    fleet.report('a', null, fix(T0 + 5), true, 1)
    expect(fleet.isStale(device, T0 + 6)).toBe(false)
    expect(fleet.isStale(device, T0 + 66)).toBe(true)
  })
})

describe('texts of the tracker', () => {
  it.each(['de', 'fr', 'es', 'sk', 'ar'])('%s has the same places to fill', async (language) => {
    const texts = await trackerTexts(language)
    for (const [key, text] of Object.entries(english)) {
      const other = texts[key as keyof typeof english]
      expect([...other.matchAll(/\{\w+\}/g)].map(String).sort(), key).toEqual([...text.matchAll(/\{\w+\}/g)].map(String).sort())
    }
  })
})

describe('the map', () => {
  it('takes only text and web links out of a foreign attribution', () => {
    const credits = creditsOf('<a href="https://openstreetmap.org">© OSM</a><a href="javascript:alert(1)">x</a><img src=x onerror=alert(1)>')
    expect(credits).toEqual([{ text: '© OSM', href: 'https://openstreetmap.org/' }])
  })

  it('draws a round length on its scale', () => {
    expect(scaleOf(1.2, 90, false)).toMatchObject({ value: 100, unit: 'meter' })
    expect(scaleOf(30, 90, false)).toMatchObject({ value: 2, unit: 'kilometer' })
    expect(scaleOf(1.2, 90, true)).toMatchObject({ value: 200, unit: 'foot' })
  })
})
