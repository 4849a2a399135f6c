/** Muted grounds, so that the blue puck is the brightest thing on the map. */
export interface Palette {
  land: string
  landcover: string
  park: string
  water: string
  waterText: string
  building: string
  buildingLine: string
  minor: string
  minorLine: string
  major: string
  majorLine: string
  path: string
  rail: string
  border: string
  text: string
  placeText: string
  halo: string
  grid: string
  gridHeavy: string
}

export const LIGHT: Palette = {
  land: '#f1f1ed',
  landcover: '#e4ecd9',
  park: '#d3e6c4',
  water: '#b4d5ea',
  waterText: '#4a7fa8',
  building: '#dfd9d3',
  buildingLine: '#d2cbc4',
  minor: '#ffffff',
  minorLine: '#dedbd5',
  major: '#fdefc8',
  majorLine: '#ecd9a4',
  path: '#cfc4b4',
  rail: '#bdbdbf',
  border: '#b9b4c4',
  text: '#5c6672',
  placeText: '#48525f',
  halo: '#ffffff',
  grid: '#e3e4e1',
  gridHeavy: '#d3d5d2',
}

export const DARK: Palette = {
  land: '#1b2027',
  landcover: '#1e2628',
  park: '#1e2b22',
  water: '#132636',
  waterText: '#5f8fb3',
  building: '#262c36',
  buildingLine: '#303743',
  minor: '#343c49',
  minorLine: '#1b2027',
  major: '#465264',
  majorLine: '#1b2027',
  path: '#39404c',
  rail: '#39414d',
  border: '#47506a',
  text: '#a3acb9',
  placeText: '#c5ccd6',
  halo: '#14181e',
  grid: '#242a33',
  gridHeavy: '#2f3641',
}
