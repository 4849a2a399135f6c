import { describe, expect, it } from 'vitest'
import { Format } from '../src/common/format'
import { LANGUAGES, shareTexts } from '../src/i18n'
import { Director, initialsOf, type Screen } from '../src/share/screen'
import { parseSession } from '../src/share/session'
import { initial, reduce, type State } from '../src/share/state'
import { answer } from './state.test'

const T0 = 1_776_000_000
const { en } = shareTexts

function screen(more: Record<string, unknown> = {}, atS = 0, locale = 'en-GB', connection: State['connection'] = 'open'): Screen {
  const state = [
    { type: 'session', session: parseSession(answer(more)), localMs: T0 * 1000 } as const,
    { type: 'connection', connection } as const,
  ].reduce<State>(reduce, initial(0))
  return new Director(en, new Format(locale, 'en')).screen(state, (T0 + atS) * 1000)
}

describe('the screen', () => {
  it('tells minutes until arrival, rounded up, and the clock', () => {
    expect(screen({ eta_seconds: 61 }).headline.text).toMatch(/^Arriving in 2\s?min/)
    expect(screen().subline).toMatch(/^Estimated arrival \d{1,2}:\d{2}/)
  })

  it('says "Arriving now" below 45 s', () => {
    expect(screen({ eta_seconds: 44 }).headline.text).toBe(en.arrivingNow)
    expect(screen({ eta_seconds: 45 }).headline.text).not.toBe(en.arrivingNow)
  })

  it('moves the clock of arrival only when it changes by more than 45 s', () => {
    const director = new Director(en, new Format('en-GB', 'en'))
    const at = (eta: number): string => {
      const state = reduce(initial(0), { type: 'session', session: parseSession(answer({ eta_seconds: eta })), localMs: T0 * 1000 })
      return director.screen(state, T0 * 1000).subline
    }
    const first = at(840)
    expect(at(880)).toBe(first)
    expect(at(960)).not.toBe(first)
  })

  it('has no arrival time, speed or heading when stale, and says since when', () => {
    const stale = screen({}, 240)
    expect(stale.pill).toEqual({ state: 'stale', tone: 'warn', text: en.signalLost })
    expect(stale.headline.text).toBe(en.noEtaTitle)
    expect(stale.speed).toBeNull()
    expect(stale.heading).toBeNull()
    expect(stale.driver?.line).toMatch(/^Last seen 4\s?min/)
  })

  it('misses an arrival time where one is to be expected alone', () => {
    const old = { eta_seconds: null, stale: true }
    expect(screen(old).headline.text).toBe(en.noEtaTitle)
    expect(screen({ ...old, destination: null }).headline.text).toBe(en.pausedTitle)
    expect(screen({ eta_seconds: null }, 240).headline.text).toBe(en.pausedTitle)
  })

  it('speaks of a driver without a name in a sentence of its own', () => {
    const nameless = { driver_display_name: null, destination: null, eta_seconds: null }
    expect(screen(nameless).subline).toBe('Follow your driver on the map')
    expect(screen({ ...nameless, stage: 'en_route_to_pickup' }).subline).toBe('Follow your driver on the map')
    expect(screen({ ...nameless, stage: 'at_pickup' }).subline).toBe('Please meet your driver at the pickup point.')
    expect(screen({ destination: null, eta_seconds: null }).subline).toBe('Follow John Smith on the map')
  })

  it('shows what the link hides nowhere', () => {
    const bare = screen({ driver: { latitude: 1, longitude: 2, heading: null, speed: null }, eta_seconds: null, destination: null, notes: null, recipient_name: null, order_id: null })
    expect(bare).toMatchObject({ speed: null, heading: null, destination: null, notes: null, greeting: null, order: null })
    expect(bare.headline.text).toBe(en.liveTitle)
  })

  it('writes speeds in miles where the region does', () => {
    expect(screen().speed).toMatch(/28\s?mph/)
    expect(screen({}, 0, 'en-US').speed).toMatch(/28\s?mph/)
    expect(screen({}, 0, 'en-IE').speed).toMatch(/45\s?km\/h/)
    expect(screen({ driver: { latitude: 1, longitude: 2, heading: 1, speed: 0.5 } }).speed).toBe(en.stopped)
  })

  it.each([
    ['waiting', en.waitingTitle],
    ['not_sharing', en.notSharingTitle],
    ['at_pickup', en.atPickupTitle],
    ['arrived', en.arrivedTitle],
    ['no_show', en.noShowTitle],
    ['trip_ended', en.tripEndedTitle],
  ])('says stage %s in its own words', (stage, title) => {
    expect(screen({ stage }).headline.text).toBe(title)
  })

  it('shows the journey of a booking, and none for others', () => {
    expect(screen({ stage: 'en_route_to_pickup' }).step).toBe(0)
    expect(screen({ stage: 'on_trip' }).step).toBe(2)
    expect(screen().step).toBeNull()
  })

  it('names the pickup point while the driver is on the way there', () => {
    expect(screen({ stage: 'en_route_to_pickup' }).destination?.title).toBe(en.pickup)
    expect(screen({ stage: 'on_trip' }).destination?.title).toBe(en.destination)
  })

  it.each(['offline', 'lost', 'reconnecting', 'connecting'] as const)('says %s in the pill', (connection) => {
    expect(screen({}, 0, 'en-GB', connection).pill.state).toBe(connection)
  })

  it('takes initials from the first and the last word', () => {
    expect(initialsOf('Wolfgang Amadeus Mozart')).toBe('WM')
    expect(initialsOf('Ζωή')).toBe('Ζ')
  })
})

describe('texts', () => {
  it.each(LANGUAGES)('%s has every text, each with the same places to fill', (language) => {
    for (const [key, english] of Object.entries(en)) {
      const text = shareTexts[language][key as keyof typeof en]
      expect(text.trim(), key).not.toBe('')
      expect([...text.matchAll(/\{\w+\}/g)].map(String).sort(), key).toEqual([...english.matchAll(/\{\w+\}/g)].map(String).sort())
    }
    expect(shareTexts[language].compass.split(' ')).toHaveLength(8)
  })
})

describe('formats', () => {
  it('survives a locale that is none', () => {
    expect(new Format('not_a_locale', 'de').speed(10)).toMatch(/36\s?km\/h/)
  })

  it('writes long times in hours', () => {
    expect(new Format('en-GB', 'en').minutes(3660)).toMatch(/1\s?h.* 1\s?m/)
  })

  it('uses the region of the reader with the language of the page', () => {
    expect(new Format('en-US', 'de').speed(10)).toMatch(/22\s?mi\/h/)
  })
})
