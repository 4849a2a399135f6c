import { texts as en } from './en'
import type { TrackerTexts } from './texts'

/** English is at hand at once; the others come when they are needed. */
const OTHERS: Record<string, () => Promise<{ texts: TrackerTexts }>> = {
  de: () => import('./de'),
  fr: () => import('./fr'),
  es: () => import('./es'),
  sk: () => import('./sk'),
  ar: () => import('./ar'),
}

export const english = en

export async function trackerTexts(language: string): Promise<TrackerTexts> {
  const load = OTHERS[language]
  return load === undefined ? en : (await load()).texts
}
