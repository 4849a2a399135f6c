/** 36 x 44, its tip in the middle of the lower edge. */
export function teardrop(): SVGElement {
  const space = 'http://www.w3.org/2000/svg'
  const svg = document.createElementNS(space, 'svg')
  svg.setAttribute('viewBox', '0 0 36 44')
  const drop = document.createElementNS(space, 'path')
  drop.setAttribute('class', 'drop')
  drop.setAttribute('d', 'M18 43C10 33 2 26 2 17a16 16 0 0 1 32 0c0 9-8 16-16 26z')
  const hole = document.createElementNS(space, 'circle')
  hole.setAttribute('class', 'hole')
  for (const [name, value] of [['cx', '18'], ['cy', '17'], ['r', '6']] as const) hole.setAttribute(name, value)
  svg.append(drop, hole)
  return svg
}
