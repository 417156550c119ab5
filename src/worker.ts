/*
 * The composition root of worker threads: which source is opened by whom, and which codec this runtime has. The same
 * module serves the main thread for work that is too little for a worker.
 */
import { loadCodec } from './compress/load-codec.js'
import type { Source, SourceReader } from './model/source.js'
import { failureOf, meet, type TaskCall, type TaskOutcome } from './operations/pool.js'
import { checkBlocks } from './operations/tasks/check-blocks.js'
import { checkParts } from './operations/tasks/check-parts.js'
import { decodeFrame } from './operations/tasks/decode-frame.js'
import { hashObject } from './operations/tasks/hash-object.js'
import { OpenFiles } from './operations/tasks/open-files.js'
import { readChunk } from './operations/tasks/read-chunk.js'
import { recutFrame } from './operations/tasks/recut-frame.js'
import type { Tasks } from './operations/tasks/tasks.js'
import { writeZeroes } from './operations/tasks/write-zeroes.js'

async function openSource(source: Source): Promise<SourceReader> {
  switch (source.kind) {
    case 'file':
      return (await import('./trackers/image/file-source.js')).openFileSource(source)
    case 'layers':
      return (await import('./trackers/disk/layers-source.js')).openLayersSource(source)
    case 'nbd':
      return await (await import('./nbd/nbd-source.js')).openNbdSource(source)
  }
}

const files = new OpenFiles(openSource)

const tasks: Tasks = {
  readChunk: async (job) => readChunk(job, await files.source(job.sourceKey, job.source), await loadCodec()),
  decodeFrame: async (job) => decodeFrame(job, files, await loadCodec()),
  checkBlocks: (job) => checkBlocks(job, files),
  checkParts: async (job) =>
    checkParts(job, await files.source(job.sourceKey, job.source), files, await loadCodec()),
  writeZeroes: (job) => writeZeroes(job, files),
  hashObject: (job) => hashObject(job, files),
  closeSources: async (keys) => {
    await files.closeSources(keys)
    return null
  },
  recutFrame: async (job) => recutFrame(job, files, await loadCodec()),
  closeAll: async () => {
    await files.closeAll()
    return null
  },
}

/** Runs jobs in order; a failure is data, since exceptions lose their class between threads. */
export async function runTasks({ name, jobs, meeting }: TaskCall): Promise<TaskOutcome<unknown[]>> {
  try {
    const task = tasks[name] as (job: unknown) => Promise<unknown>
    const results: unknown[] = []
    for (const job of jobs) results.push(await task(job))
    return { ok: true, result: results }
  } catch (error) {
    return failureOf(error)
  } finally {
    if (meeting !== undefined) meet(meeting)
  }
}
