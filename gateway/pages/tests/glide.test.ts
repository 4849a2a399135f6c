import { describe, expect, it } from 'vitest'
import { Glide } from '../src/common/glide'
import { between, distanceM, shortestTurn } from '../src/common/place'

const HERE = { latitude: 60.17, longitude: 24.94 }
/** `metres` to the north of HERE */
const north = (metres: number): typeof HERE => ({ ...HERE, latitude: HERE.latitude + metres / 111_195 })
const fix = (place: typeof HERE, more: Partial<Parameters<Glide['arrive']>[0]> = {}): Parameters<Glide['arrive']>[0] => ({ place, speed: 10, intervalMs: 5000, snap: false, ...more })

describe('a glide', () => {
  it('goes in a straight line over one interval and then holds at the last fix', () => {
    const glide = new Glide()
    glide.arrive(fix(HERE), 0)
    glide.arrive(fix(north(100)), 1000)
    expect(glide.at(1000)).toEqual(HERE)
    expect(distanceM(HERE, glide.at(3500)!)).toBeCloseTo(50, 0)
    expect(glide.at(6000)).toEqual(north(100))
    expect(glide.at(60_000)).toEqual(north(100))
    expect(glide.moving(60_000)).toBe(false)
  })

  it('starts the next leg from where it is displayed, not from the last fix', () => {
    const glide = new Glide()
    glide.arrive(fix(HERE), 0)
    glide.arrive(fix(north(100)), 0)
    glide.arrive(fix(north(200)), 2500)
    expect(distanceM(HERE, glide.at(2500)!)).toBeCloseTo(50, 0)
  })

  it('snaps over more than 500 m', () => {
    const glide = new Glide()
    glide.arrive(fix(HERE), 0)
    glide.arrive(fix(north(501)), 1000)
    expect(glide.at(1000)).toEqual(north(501))
  })

  it('ignores jitter under 2 m while standing, but not while moving', () => {
    const glide = new Glide()
    glide.arrive(fix(HERE), 0)
    glide.arrive(fix(north(1.5), { speed: 0 }), 1000)
    expect(glide.at(9000)).toEqual(HERE)
    glide.arrive(fix(north(1.5), { speed: 3 }), 10_000)
    expect(glide.at(20_000)).toEqual(north(1.5))
  })

  it('snaps when motion is not wanted', () => {
    const glide = new Glide()
    glide.arrive(fix(HERE), 0)
    glide.arrive(fix(north(100), { snap: true }), 1000)
    expect(glide.at(1000)).toEqual(north(100))
  })

  it('lasts 0.3 s at least and 10 s at most', () => {
    const glide = new Glide()
    glide.arrive(fix(HERE), 0)
    glide.arrive(fix(north(100), { intervalMs: 10 }), 0)
    expect(glide.moving(299)).toBe(true)
    expect(glide.moving(300)).toBe(false)
    glide.arrive(fix(north(200), { intervalMs: 300_000 }), 1000)
    expect(glide.moving(10_999)).toBe(true)
    expect(glide.moving(11_000)).toBe(false)
  })
})

describe('turning', () => {
  it('goes the short way round', () => {
    expect(shortestTurn(350, 10)).toBe(20)
    expect(shortestTurn(10, 350)).toBe(-20)
    expect(shortestTurn(-730, 0)).toBe(10)
  })

  it('crosses the date line the short way', () => {
    expect(between({ latitude: 0, longitude: 179 }, { latitude: 0, longitude: -179 }, 0.5).longitude).toBe(180)
  })
})
