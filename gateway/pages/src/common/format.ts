/** Numbers, units and times as the reader's region writes them. All input is SI and UTC. */
const MILES = new Set(['US', 'GB', 'LR', 'MM', 'PR'])
const KMH_PER_MPS = 3.6
const MPH_PER_MPS = 2.236936

export function fill(text: string, values: Record<string, string>): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => values[name] ?? whole)
}

export class Format {
  /** `locale` is the browser's first choice (region decides the units), `language` that of the page's texts. */
  readonly tag: string
  readonly miles: boolean

  constructor(locale: string, language: string) {
    let region: string | undefined
    let own = false
    try {
      const parsed = new Intl.Locale(locale)
      region = parsed.region ?? parsed.maximize().region
      own = parsed.language === language
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
    }
    this.tag = own ? locale : language
    this.miles = region !== undefined && MILES.has(region)
  }

  speed(mps: number): string {
    const value = Math.round(mps * (this.miles ? MPH_PER_MPS : KMH_PER_MPS))
    return this.unit(value, this.miles ? 'mile-per-hour' : 'kilometer-per-hour', 'short')
  }

  /** Whole minutes, rounded up, with hours from 60 on. */
  minutes(seconds: number): string {
    const minutes = Math.max(1, Math.ceil(seconds / 60))
    if (minutes < 60) return this.unit(minutes, 'minute', 'short')
    const hours = this.unit(Math.floor(minutes / 60), 'hour', 'short')
    return minutes % 60 === 0 ? hours : `${hours} ${this.unit(minutes % 60, 'minute', 'short')}`
  }

  seconds(seconds: number): string {
    return this.unit(Math.max(0, Math.ceil(seconds)), 'second', 'short')
  }

  /** A round length, for a scale bar. */
  length(value: number, unit: 'meter' | 'kilometer' | 'foot' | 'mile'): string {
    return this.unit(value, unit, 'short')
  }

  clock(atMs: number): string {
    return new Intl.DateTimeFormat(this.tag, { hour: 'numeric', minute: '2-digit' }).format(atMs)
  }

  /** Clock today, else the day too. */
  moment(atMs: number, nowMs: number): string {
    const sameDay = new Date(atMs).toDateString() === new Date(nowMs).toDateString()
    if (sameDay) return this.clock(atMs)
    return new Intl.DateTimeFormat(this.tag, { dateStyle: 'medium', timeStyle: 'short' }).format(atMs)
  }

  ago(seconds: number): string {
    const relative = new Intl.RelativeTimeFormat(this.tag, { numeric: 'always', style: 'short' })
    if (seconds < 60) return relative.format(-Math.max(1, Math.floor(seconds)), 'second')
    if (seconds < 3600) return relative.format(-Math.floor(seconds / 60), 'minute')
    if (seconds < 86_400) return relative.format(-Math.floor(seconds / 3600), 'hour')
    return relative.format(-Math.floor(seconds / 86_400), 'day')
  }

  /** Time left, as "in 4 hours". */
  until(seconds: number): string {
    const relative = new Intl.RelativeTimeFormat(this.tag, { numeric: 'always', style: 'short' })
    if (seconds < 3570) return relative.format(Math.max(1, Math.round(seconds / 60)), 'minute')
    if (seconds < 47 * 3600) return relative.format(Math.round(seconds / 3600), 'hour')
    return relative.format(Math.round(seconds / 86_400), 'day')
  }

  /** A span of hours, in days from two days on. */
  span(hours: number): string {
    return hours >= 48 && hours % 24 === 0 ? this.unit(hours / 24, 'day', 'long') : this.unit(hours, 'hour', 'long')
  }

  /** The nearest of eight points out of `points`, clockwise from north. */
  compass(headingDeg: number, points: string): string {
    return points.split(' ')[Math.round((((headingDeg % 360) + 360) % 360) / 45) % 8] ?? ''
  }

  private unit(value: number, unit: string, unitDisplay: 'short' | 'long'): string {
    return new Intl.NumberFormat(this.tag, { style: 'unit', unit, unitDisplay, maximumFractionDigits: 0 }).format(value)
  }
}
