import './page.css'
import type { TrackerBoot } from './boot'
import { LiveTracker } from './live-tracker'

const TOKEN_MESSAGE = 'waybridge:token'
const RELAYED = ['ready', 'select', 'share-created', 'auth-required'] as const

/** The iframe page: the element, its token by `postMessage` or in the fragment, its events told to the host. */
function start(): void {
  const text = document.getElementById('boot')?.textContent
  if (text == null) throw new Error('the page lacks its boot data')
  const boot = JSON.parse(text) as TrackerBoot
  const tracker = new LiveTracker()
  tracker.src = new URL('..', location.href).href
  tracker.instanceId = boot.instance_id
  tracker.lang = boot.language
  tracker.boot = boot
  takeFragment(tracker)
  addEventListener('hashchange', () => takeFragment(tracker))
  const parents = new Set(boot.parents ?? [])
  addEventListener('message', (event: MessageEvent) => {
    if (!(parents.has(event.origin) || event.origin === location.origin)) return
    const message: unknown = event.data
    if (typeof message !== 'object' || message === null) return
    const { type, token } = message as { type?: unknown; token?: unknown }
    if (type === TOKEN_MESSAGE && typeof token === 'string' && token !== '') tracker.token = token
  })
  for (const name of RELAYED) {
    tracker.addEventListener(`tracker:${name}`, (event) => tell(parents, `waybridge:${name}`, (event as CustomEvent<unknown>).detail))
  }
  document.body.append(tracker)
  // the host may send its token as soon as it hears this
  tell(parents, 'waybridge:hello', {})
}

/** `#token=<jwt>`: never sent to a server, and taken out of the address at once. */
function takeFragment(tracker: LiveTracker): void {
  const token = new URLSearchParams(location.hash.slice(1)).get('token')
  if (token === null || token === '') return
  history.replaceState(null, '', location.pathname + location.search)
  tracker.token = token
}

/** Only a parent on the allowlist hears anything. */
function tell(parents: Set<string>, type: string, detail: unknown): void {
  if (window.parent === window) return
  const framing = location.ancestorOrigins?.[0] ?? (document.referrer === '' ? null : new URL(document.referrer).origin)
  const targets = framing === null ? [...parents] : parents.has(framing) || framing === location.origin ? [framing] : []
  for (const origin of targets) window.parent.postMessage({ type, detail }, origin)
}

start()
