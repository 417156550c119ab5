import type { Directory } from './directory.js'
import type { FinePage } from './fine-pages.js'

/** What of a map a client's flush has to make durable, taken at one moment. */
export interface MapSnapshot {
  /** May run beside the sync of the layer's data. */
  before(): Promise<void>
  /** Only after the layer's data is synced: from then on the blocks written are present. */
  after(): Promise<void>
}

/**
 * Which blocks a layer holds, and since which generation. Block numbers are inclusive. The base holds every block, so
 * its fine pages are only written when a generation ends (until then coarse marks stand for them). An overlay holds
 * what its fine pages say, so those are part of every flush.
 */
export interface LayerMap {
  readonly directory: Directory
  /** To be awaited before blocks are written in place. Undefined when there is nothing to wait for. */
  prepare(first: number, last: number, generation: number): Promise<void> | undefined
  /** After the data is written: these blocks are present, of this generation. */
  record(first: number, last: number, generation: number): Promise<void> | undefined
  /** As `record`, with a generation of its own for every block from `first` on. */
  recordEach(first: number, generations: Uint32Array): Promise<void> | undefined
  /** Undefined when nothing is to do. Snapshots are carried out one after the other, in order. */
  snapshot(): MapSnapshot | undefined
  /** Writes everything, pages first, then entries without marks. No writes may be under way. */
  settle(): Promise<void>
  /** A region's generations as they are now, marks of a crash included; 0 for absent blocks. The caller's own copy. */
  effective(region: number): Promise<FinePage>
  /** Whether more is held in memory than should be: a flush is due. */
  readonly pressed: boolean
}
