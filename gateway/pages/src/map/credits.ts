import type { Credit } from './config'

/** Attribution of a foreign source is HTML; only its text and its http links are taken. */
export function creditsOf(html: string): Credit[] {
  const parsed = new DOMParser().parseFromString(html, 'text/html')
  const links = [...parsed.querySelectorAll('a')].filter((a) => /^https?:$/.test(a.protocol))
  if (links.length === 0) return [{ text: parsed.body.textContent?.trim() ?? '', href: null }]
  return links.map((a) => ({ text: a.textContent?.trim() ?? '', href: a.href }))
}
