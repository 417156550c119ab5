import type { BlocksJob, BlocksResult } from './check-blocks.js'
import type { PartsJob, PartsResult } from './check-parts.js'
import type { FrameJob, FrameResult } from './decode-frame.js'
import type { HashJob } from './hash-object.js'
import type { ReadChunk, ReadJob } from './read-chunk.js'
import type { RecutFrame, RecutJob } from './recut-frame.js'
import type { ZeroJob } from './write-zeroes.js'

/** What each task gives back. */
export interface TaskResults {
  readChunk: ReadChunk
  decodeFrame: FrameResult
  checkBlocks: BlocksResult
  checkParts: PartsResult
  writeZeroes: null
  hashObject: string
  closeSources: null
  recutFrame: RecutFrame
  closeAll: null
}

/** What each task takes. */
export interface TaskJobs {
  readChunk: ReadJob
  decodeFrame: FrameJob
  checkBlocks: BlocksJob
  checkParts: PartsJob
  writeZeroes: ZeroJob
  hashObject: HashJob
  /** Closes the readers of these sources, by their keys. */
  closeSources: readonly string[]
  recutFrame: RecutJob
  /** Closes what the thread keeps open between tasks. */
  closeAll: undefined
}

/** Everything that touches payload, by name; run by a `TaskPool`, each task in whichever thread is free. */
export type Tasks = { readonly [Name in keyof TaskJobs]: (job: TaskJobs[Name]) => Promise<TaskResults[Name]> }
