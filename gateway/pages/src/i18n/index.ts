import { ar } from './ar.ts'
import { de } from './de.ts'
import { en } from './en.ts'
import { es } from './es.ts'
import { fr } from './fr.ts'
import type { ShareTexts } from './share.ts'
import { sk } from './sk.ts'

export const LANGUAGES = ['en', 'de', 'fr', 'es', 'sk', 'ar'] as const
export type Language = (typeof LANGUAGES)[number]

/** Read by the build alone: the server puts the one dictionary that a reader needs into the page. */
export const shareTexts: Record<Language, ShareTexts> = { en, de, fr, es, sk, ar }
