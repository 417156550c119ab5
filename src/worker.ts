/*
 * The composition root of worker threads: which source is opened by whom, and which codec this runtime has. The same
 * module serves the main thread for work that is too little for a worker.
 */
import { loadCodec } from './compress/load-codec.js'
import type { Source, SourceReader } from './model/source.js'
import { failureOf, type TaskOutcome } from './operations/pool.js'
import { checkBlocks } from './operations/tasks/check-blocks.js'
import { decodeFrame } from './operations/tasks/decode-frame.js'
import { hashObject } from './operations/tasks/hash-object.js'
import { OpenFiles } from './operations/tasks/open-files.js'
import { readChunk } from './operations/tasks/read-chunk.js'
import type { Tasks } from './operations/tasks/tasks.js'
import { writeZeroes } from './operations/tasks/write-zeroes.js'

async function openSource(source: Source): Promise<SourceReader> {
  switch (source.kind) {
    case 'file':
      return (await import('./trackers/image/file-source.js')).openFileSource(source)
    case 'layers':
      return (await import('./trackers/disk/layers-source.js')).openLayersSource(source)
  }
}

const files = new OpenFiles(openSource)

const tasks: Tasks = {
  readChunk: async (job) => readChunk(job, await files.source(job.sourceKey, job.source), await loadCodec()),
  decodeFrame: async (job) => decodeFrame(job, files, await loadCodec()),
  checkBlocks: (job) => checkBlocks(job, files),
  writeZeroes: (job) => writeZeroes(job, files),
  hashObject: (job) => hashObject(job, files),
  closeAll: async () => {
    await files.closeAll()
    return null
  },
}

/** Runs one task; its failure is data, since exceptions lose their class between threads. */
export async function runTask(call: { name: keyof Tasks; job: unknown }): Promise<TaskOutcome<unknown>> {
  try {
    const task = tasks[call.name] as (job: unknown) => Promise<unknown>
    return { ok: true, result: await task(call.job) }
  } catch (error) {
    return failureOf(error)
  }
}

/** The same from within a worker thread: a frame is handed over, not copied. */
export async function runTaskInThread(call: { name: keyof Tasks; job: unknown }): Promise<unknown> {
  const outcome = await runTask(call)
  const frame = outcome.ok ? frameOf(outcome.result) : undefined
  if (frame === undefined) return outcome
  const { Tinypool } = await import('tinypool')
  return Tinypool.move({
    [Tinypool.transferableSymbol]: frame.buffer,
    [Tinypool.valueSymbol]: outcome,
  } as unknown as ArrayBuffer)
}

/** The frame of a chunk, if it has memory of its own: a piece of a shared pool can't be given away. */
function frameOf(result: unknown): Uint8Array | undefined {
  if (typeof result !== 'object' || result === null || !('frame' in result)) return undefined
  const { frame } = result
  return frame instanceof Uint8Array && frame.byteLength > 16_384 ? frame : undefined
}
