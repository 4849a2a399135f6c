/** Geometry on degrees: just enough to decide how a marker moves. */
export interface Place {
  latitude: number
  longitude: number
}

const EARTH_RADIUS_M = 6_371_008.8
const RADIANS = Math.PI / 180

/** Great-circle distance in metres. */
export function distanceM(a: Place, b: Place): number {
  const latitude = (b.latitude - a.latitude) * RADIANS
  const longitude = (b.longitude - a.longitude) * RADIANS
  const h =
    Math.sin(latitude / 2) ** 2 +
    Math.cos(a.latitude * RADIANS) * Math.cos(b.latitude * RADIANS) * Math.sin(longitude / 2) ** 2
  return 2 * EARTH_RADIUS_M * Math.asin(Math.min(1, Math.sqrt(h)))
}

/** The turn from one heading to another the short way round, in (-180, 180]. */
export function shortestTurn(fromDeg: number, toDeg: number): number {
  const turn = (((toDeg - fromDeg) % 360) + 360) % 360
  return turn > 180 ? turn - 360 : turn
}

/** A point between two places; longitude takes the short way over the date line. */
export function between(a: Place, b: Place, t: number): Place {
  return {
    latitude: a.latitude + (b.latitude - a.latitude) * t,
    longitude: a.longitude + shortestTurn(a.longitude, b.longitude) * t,
  }
}
