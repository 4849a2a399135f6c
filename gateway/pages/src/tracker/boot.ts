import type { Brand } from '../share/boot'
import type { MapConfig } from '../map/config'

/** What `/embed/tracker` carries and `/embed/config` answers. */
export interface TrackerBoot {
  api: string | null
  language: string
  instance_id: string
  brand: Brand
  map: MapConfig
  /** most active links of one device */
  link_limit: number
  /** origins that may frame the page and send it a token; in the page alone */
  parents?: string[]
}
