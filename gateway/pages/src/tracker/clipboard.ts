/**
 * Copies a text. A frame without `allow="clipboard-write"` may not use the Clipboard API, but the older command still
 * works there, because the click is the reader's own.
 */
export async function copyText(text: string, root: DocumentFragment | HTMLElement): Promise<void> {
  try {
    await navigator.clipboard.writeText(text)
  } catch (error) {
    if (!(error instanceof DOMException || error instanceof TypeError)) throw error
    copyBySelection(text, root)
  }
}

function copyBySelection(text: string, root: DocumentFragment | HTMLElement): void {
  const before = root.ownerDocument?.activeElement
  const area = document.createElement('textarea')
  area.value = text
  area.readOnly = true
  area.setAttribute('aria-hidden', 'true')
  area.style.position = 'fixed'
  area.style.opacity = '0'
  document.body.append(area)
  area.select()
  const done = document.execCommand('copy')
  area.remove()
  if (before instanceof HTMLElement) before.focus()
  if (!done) throw new Error('this browser does not let a page copy')
}
