const DRAG_PX = 24

/** Opens and closes the bottom sheet by the grip: tap, key or drag. */
export class Sheet {
  private startY: number | null = null
  private dragged = false

  constructor(
    private readonly panel: HTMLElement,
    private readonly grip: HTMLElement,
    private readonly labels: { show: string; hide: string },
  ) {
    grip.addEventListener('click', () => {
      if (!this.dragged) this.set(!this.open)
      this.dragged = false
    })
    grip.addEventListener('pointerdown', (event) => {
      this.startY = event.clientY
      this.dragged = false
      grip.setPointerCapture(event.pointerId)
    })
    grip.addEventListener('pointermove', (event) => {
      if (this.startY === null || this.dragged) return
      const moved = event.clientY - this.startY
      if (Math.abs(moved) < DRAG_PX) return
      this.dragged = true
      this.set(moved < 0)
    })
    const end = (): void => {
      this.startY = null
    }
    grip.addEventListener('pointerup', end)
    grip.addEventListener('pointercancel', end)
  }

  get open(): boolean {
    return this.panel.classList.contains('open')
  }

  set(open: boolean): void {
    this.panel.classList.toggle('open', open)
    this.grip.setAttribute('aria-expanded', String(open))
    this.grip.setAttribute('aria-label', open ? this.labels.hide : this.labels.show)
    if (!open) this.panel.scrollTop = 0
  }
}
