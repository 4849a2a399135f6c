import { svg, type TemplateResult } from 'lit'

const draw = (inner: TemplateResult): TemplateResult => svg`<svg viewBox="0 0 24 24" aria-hidden="true">${inner}</svg>`

export const icons = {
  search: draw(svg`<circle cx="11" cy="11" r="7"/><path d="M20 20l-4-4"/>`),
  close: draw(svg`<path d="M6 6l12 12M18 6L6 18"/>`),
  share: draw(svg`<circle cx="6" cy="12" r="2.6"/><circle cx="17" cy="6" r="2.6"/><circle cx="17" cy="18" r="2.6"/><path d="M8.4 10.8l6.3-3.5M8.4 13.2l6.3 3.5"/>`),
  copy: draw(svg`<rect x="9" y="9" width="11" height="11" rx="2"/><path d="M5 15V6a2 2 0 0 1 2-2h8"/>`),
  pin: draw(svg`<path d="M12 21c4-5 7-8 7-12a7 7 0 0 0-14 0c0 4 3 7 7 12z"/>`),
  plus: draw(svg`<path d="M12 5v14M5 12h14"/>`),
  minus: draw(svg`<path d="M5 12h14"/>`),
  fit: draw(svg`<path d="M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5"/>`),
  arrow: (deg: number): TemplateResult => draw(svg`<path class="solid" transform=${`rotate(${Math.round(deg)} 12 12)`} d="M12 2l7 19-7-4-7 4z"/>`),
  dot: draw(svg`<circle class="solid" cx="12" cy="12" r="6"/>`),
}
