/** Every text of the share page. A language that lacks one does not compile. `{...}` is filled by `fill`. */
export interface ShareTexts {
  /** Pill */
  connecting: string
  connected: string
  live: string
  signalLost: string
  reconnecting: string
  connectionLost: string
  offline: string
  sharingOff: string
  /** Headlines and the line under each */
  waitingTitle: string
  waitingText: string
  arrivingIn: string
  arrivingNow: string
  estimatedArrival: string
  liveTitle: string
  follow: string
  /** the same of a driver without a name */
  followDriver: string
  noEtaTitle: string
  pausedTitle: string
  staleText: string
  enRouteTitle: string
  enRouteText: string
  atPickupTitle: string
  atPickupText: string
  atPickupDriver: string
  onTripTitle: string
  onTripText: string
  arrivedTitle: string
  arrivedText: string
  noShowTitle: string
  noShowText: string
  notSharingTitle: string
  notSharingText: string
  tripEndedTitle: string
  tripEndedText: string
  /** Journey of a booking, four short steps */
  journey: string
  stepOnTheWay: string
  stepPickup: string
  stepTrip: string
  stepArrived: string
  /** Driver row and details */
  yourDriver: string
  updatedNow: string
  updated: string
  lastSeen: string
  speed: string
  heading: string
  stopped: string
  hello: string
  destination: string
  pickup: string
  order: string
  privacy: string
  /** Cards */
  endedTitle: string
  endedText: string
  completedText: string
  cancelledText: string
  expiredText: string
  notFoundTitle: string
  notFoundText: string
  lostTitle: string
  lostText: string
  tryAgain: string
  busyTitle: string
  busyText: string
  busyWait: string
  noMap: string
  openMaps: string
  noScript: string
  /** Names of things for assistive technology */
  skip: string
  map: string
  driver: string
  showDetails: string
  hideDetails: string
  fit: string
  centre: string
  zoomIn: string
  zoomOut: string
  attribution: string
  connection: string
  /** Eight points of the compass from north, clockwise, separated by blanks */
  compass: string
  /** Title of the page and of link previews; no personal data */
  pageTitle: string
  previewTitle: string
  previewText: string
}
