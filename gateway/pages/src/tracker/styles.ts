import { css } from 'lit'

/** Colours and basic parts, for the tracker and its drawer. */
export const base = css`
  :host {
    --bg: #fff;
    --bg2: #f4f6f8;
    --text: #11151c;
    --text2: #566070;
    --line: #e4e8ed;
    --brand: var(--brand-light, #1a5cff);
    --on-brand: var(--on-light, #fff);
    --ok: #0b7a3e;
    --warn: #9a5b00;
    --bad: #b3261e;
    --land: #f1f1ed;
    --field: #7b8594;
    --edge: transparent;
    --pin: #11151c;
    --shadow: 0 6px 24px rgb(17 21 28 / 0.18);
    font-family: -apple-system, BlinkMacSystemFont, 'Segoe UI', Roboto, Inter, 'Noto Sans', sans-serif;
    font-size: 14px;
    line-height: 1.4;
    color: var(--text);
  }
  :host(.dark) {
    --bg: #171b22;
    --bg2: #222832;
    --text: #f3f5f8;
    --text2: #aab4c2;
    --line: #2b323d;
    --brand: var(--brand-dark, #5b8cff);
    --on-brand: var(--on-dark, #11151c);
    --ok: #54d08a;
    --warn: #ffc266;
    --bad: #ff8a80;
    --land: #1b2027;
    --field: #8b95a4;
    --edge: #2b323d;
    --pin: #f3f5f8;
    --shadow: 0 6px 24px rgb(0 0 0 / 0.5);
  }
  *, ::before, ::after { box-sizing: border-box; }
  [hidden] { display: none !important; }
  h2, h3, p, ul, dl, dd { margin: 0; padding: 0; }
  button, input, textarea, select { font: inherit; color: inherit; }
  button { border: 0; background: none; cursor: pointer; }
  button:disabled { cursor: default; opacity: 0.5; }
  svg { width: 20px; height: 20px; flex: none; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
  .solid { fill: currentColor; stroke: none; }
  :focus-visible { outline: 3px solid var(--brand); outline-offset: 2px; }
  .primary, .secondary { display: inline-flex; align-items: center; justify-content: center; gap: 10px; min-height: 40px; padding: 8px 16px; border-radius: 12px; }
  .primary { background: var(--brand); color: var(--on-brand); font-weight: 500; }
  .secondary { background: var(--bg); border: 1px solid var(--line); }
  .icon { display: grid; place-items: center; width: 40px; height: 40px; padding: 0; border-radius: 12px; color: var(--text2); }
  .banner { display: flex; align-items: center; gap: 8px; padding: 10px 12px; border-radius: 12px; background: color-mix(in srgb, var(--warn) 12%, var(--bg)); color: var(--warn); }
  .banner.bad { background: color-mix(in srgb, var(--bad) 10%, var(--bg)); color: var(--bad); }
  .banner span { flex: 1; }
  @media (prefers-reduced-motion: reduce) {
    *, ::before, ::after { animation: none !important; transition: none !important; }
  }
`

export const tracker = css`
  :host { display: block; position: relative; height: 100%; min-height: 320px; container-type: inline-size; background: var(--bg); overflow: hidden; }
  .app { position: relative; display: grid; grid-template-columns: 300px minmax(0, 1fr); height: 100%; }
  .side { display: flex; flex-direction: column; min-height: 0; border-inline-end: 1px solid var(--line); }
  .top { padding: 16px 16px 8px; display: grid; gap: 10px; }
  .head { display: flex; align-items: center; justify-content: space-between; min-height: 26px; }
  h2 { font-size: 18px; font-weight: 700; }
  .conn { display: flex; align-items: center; gap: 6px; font-size: 13px; font-weight: 600; color: var(--warn); }
  .conn::before { content: ''; width: 8px; height: 8px; border-radius: 50%; background: currentColor; }
  .conn[data-state='live'] { color: var(--ok); }
  .conn[data-state='expired'], .conn[data-state='forbidden'] { color: var(--bad); }
  .search { position: relative; }
  .search svg { position: absolute; inset-block-start: 10px; inset-inline-start: 11px; color: var(--text2); pointer-events: none; }
  .search input { width: 100%; height: 40px; padding: 0 12px; padding-inline-start: 40px; border: 1px solid transparent; border-radius: 12px; background: var(--bg2); }
  ::placeholder { color: var(--text2); opacity: 1; }
  .rows { flex: 1; min-height: 0; overflow: auto; padding: 0 8px 12px; list-style: none; }
  .row { display: flex; align-items: center; gap: 12px; width: 100%; min-height: 58px; padding: 6px 8px; border-radius: 14px; text-align: start; }
  .row:hover { background: var(--bg2); }
  .row[aria-current='true'] { background: color-mix(in srgb, var(--brand) 13%, var(--bg)); }
  .disc { display: grid; place-items: center; flex: none; width: 36px; height: 36px; border-radius: 50%; background: color-mix(in srgb, var(--brand) 15%, var(--bg)); color: var(--brand); }
  .disc svg { width: 16px; height: 16px; }
  .stale .disc { background: var(--bg2); color: var(--text2); }
  .who { flex: 1; min-width: 0; }
  .who b { display: block; width: fit-content; max-width: 100%; font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .who small, .more { font-size: 13px; color: var(--text2); }
  .row > .speed { font-size: 13px; font-weight: 600; white-space: nowrap; font-variant-numeric: tabular-nums; }
  .stale .who small { color: var(--warn); }
  .more { padding: 8px 16px; }
  .empty { padding: 32px 20px; text-align: center; color: var(--text2); }
  .empty b { display: block; margin-bottom: 4px; color: var(--text); font-size: 15px; }

  .stage { position: relative; min-width: 0; min-height: 0; background: var(--land); overflow: hidden; }
  .map { position: absolute; inset: 0; overflow: hidden; -webkit-tap-highlight-color: transparent; }
  .map:focus-within::after { content: ''; position: absolute; inset: 0; border: 3px solid transparent; pointer-events: none; }
  .map:has(canvas:focus-visible)::after { border-color: var(--brand); }
  .maplibregl-canvas-container, .maplibregl-canvas { position: absolute; inset: 0 auto auto 0; outline: 0; }
  .maplibregl-canvas-container { width: 100%; height: 100%; }
  .maplibregl-interactive { cursor: grab; user-select: none; }
  .maplibregl-interactive:active { cursor: grabbing; }
  .maplibregl-touch-zoom-rotate.maplibregl-touch-drag-pan, .maplibregl-touch-zoom-rotate.maplibregl-touch-drag-pan .maplibregl-canvas { touch-action: none; }
  .maplibregl-marker { position: absolute; inset: 0 auto auto 0; will-change: transform; }
  .maplibregl-control-container { display: none; }
  .pin { width: 36px; height: 44px; cursor: grab; filter: drop-shadow(0 3px 4px rgb(17 21 28 / 0.35)); }
  .pin svg { width: 36px; height: 44px; stroke: none; }
  .drop { fill: var(--pin); }
  .hole { fill: var(--bg); }
  .credit { position: absolute; z-index: 1; inset-block-end: 8px; inset-inline-start: 8px; padding: 0 8px; border-radius: 10px; background: color-mix(in srgb, var(--bg) 82%, transparent); font-size: 11px; color: var(--text2); }
  .credit > * { display: inline-block; min-width: 24px; line-height: 24px; }
  .credit a { color: inherit; text-decoration: none; }
  .credit a:hover { text-decoration: underline; }
  .credit > * + *::before { content: '·'; padding-inline: 4px; }
  .tools { position: absolute; z-index: 1; inset-block-end: 16px; inset-inline-end: 16px; display: grid; gap: 8px; }
  .tools button { width: 44px; height: 44px; border-radius: 50%; background: var(--bg); color: var(--text); border: 1px solid var(--edge); box-shadow: var(--shadow); }
  .nomap { position: absolute; inset: 40% 24px auto; text-align: center; color: var(--text2); }
  .hint { position: absolute; z-index: 1; inset-block-start: 12px; inset-inline: 12px; margin-inline: auto; width: fit-content; max-width: min(560px, calc(100% - 24px)); box-shadow: var(--shadow); font-size: 13px; }
  .hint .icon { width: 28px; height: 28px; color: inherit; }
  .card { position: absolute; z-index: 2; inset-block-start: 16px; inset-inline-start: 16px; width: 260px; max-width: calc(100% - 32px); padding: 14px; border-radius: 16px; background: var(--bg); border: 1px solid var(--edge); box-shadow: var(--shadow); }
  .card header { display: flex; align-items: start; justify-content: space-between; gap: 8px; }
  .card h3 { font-size: 15px; padding-block: 4px; overflow-wrap: anywhere; }
  .card .icon { width: 32px; height: 32px; margin: -2px -6px 0 0; }
  .card dl { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 8px 0 14px; }
  .card dt { font-size: 12px; color: var(--text2); }
  .card dd { font-weight: 600; font-variant-numeric: tabular-nums; }
  .card .primary { width: 100%; }
  share-drawer { position: absolute; z-index: 3; inset-block: 12px; inset-inline-end: 12px; width: 372px; max-width: calc(100% - 24px); }
  .app.sharing .tools, .app.sharing .card { display: none; }

  @container (max-width: 640px) {
    .app { grid-template-columns: minmax(0, 1fr); grid-template-rows: minmax(0, 3fr) minmax(0, 2fr); }
    .side { grid-row: 2; border-inline-end: 0; border-block-start: 1px solid var(--line); }
    share-drawer { inset: auto 0 0; width: 100%; max-width: none; height: 62%; }
    .card { inset-inline: 12px; width: auto; max-width: 320px; margin-inline: auto; }
  }
`

export const drawer = css`
  :host { display: block; container-type: inline-size; background: none !important; }
  .sheet { height: 100%; overflow: auto; overscroll-behavior: contain; padding: 16px 20px 20px; border-radius: 20px; background: var(--bg); border: 1px solid var(--edge); box-shadow: var(--shadow); }
  header { position: sticky; z-index: 1; inset-block-start: -16px; display: flex; align-items: center; justify-content: space-between; gap: 8px; margin: -16px -20px 8px; padding: 14px 12px 8px 20px; background: var(--bg); }
  header h2 { font-size: 17px; overflow-wrap: anywhere; }
  form { display: grid; gap: 12px; }
  .pair { display: grid; grid-template-columns: 1fr 1fr; gap: 12px; }
  label, legend { font-size: 13px; font-weight: 600; }
  .field { display: grid; gap: 5px; }
  input:not([type='checkbox']), textarea, select { width: 100%; min-height: 40px; padding: 8px 12px; border: 1px solid var(--field); border-radius: 10px; background: var(--bg); }
  textarea { min-height: 72px; resize: vertical; display: block; }
  .place { display: flex; gap: 8px; }
  .place .secondary { flex: 1; }
  .tip { font-size: 12px; color: var(--text2); }
  fieldset { margin: 0; padding: 0; border: 0; }
  legend { padding: 0; margin-bottom: 2px; }
  .switch { display: flex; align-items: center; justify-content: space-between; min-height: 46px; border-bottom: 1px solid var(--line); font-weight: 400; font-size: 14px; cursor: pointer; }
  .switch:last-child { border-bottom: 0; }
  .switch small { font-size: 13px; color: var(--text2); }
  .switch input { appearance: none; flex: none; position: relative; width: 42px; height: 26px; margin: 0; border-radius: 13px; background: var(--field); cursor: pointer; transition: background 0.15s; }
  .switch input::after { content: ''; position: absolute; inset-block-start: 3px; inset-inline-start: 3px; width: 20px; height: 20px; border-radius: 50%; background: #fff; transition: translate 0.15s; }
  .switch input:checked { background: var(--brand); }
  .switch input:checked::after { translate: 16px; }
  :host([dir='rtl']) .switch input:checked::after { translate: -16px; }
  .switch input:disabled { opacity: 0.45; cursor: default; }
  .wide { width: 100%; }
  .ready { padding: 14px; border-radius: 14px; background: color-mix(in srgb, var(--ok) 13%, var(--bg)); }
  .ready b { display: block; }
  .result { display: grid; gap: 10px; }
  .url { display: flex; gap: 8px; }
  .url input { border-color: transparent; background: var(--bg2); direction: ltr; }
  h3 { margin-top: 20px; padding-bottom: 8px; border-bottom: 1px solid var(--line); font-size: 13px; }
  ul { list-style: none; }
  li { display: flex; align-items: center; gap: 8px; padding: 10px 0; border-bottom: 1px solid var(--line); }
  li div { flex: 1; min-width: 0; }
  li b { display: block; width: fit-content; max-width: 100%; font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  li small { font-size: 13px; color: var(--text2); overflow-wrap: anywhere; }
  .end { min-height: 36px; padding: 4px 12px; border: 1px solid var(--line); border-radius: 10px; color: var(--bad); }
  .none { padding: 12px 0; color: var(--text2); }
  .status:not(:empty) { margin-top: 12px; }
  @container (max-width: 420px) { .pair { grid-template-columns: 1fr 1fr; } }
`
