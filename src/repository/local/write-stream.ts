import type { FileHandle } from '../../files/files.js'
import { abortable } from '../abortable.js'
import type { ByteStream } from '../repository.js'
import { storageError } from './storage-error.js'

/**
 * Bytes gathered for one write; as many again may be on their way to the disk. What is gathered is to be in the
 * processor's cache still when the kernel copies it: folds seemed slower with 4 MiB.
 */
const batchBytes = 1 * 1024 * 1024
/** After so many bytes a sync is started beside the writing, so that the last one finds little left to do. */
const syncEveryBytes = 64 * 1024 * 1024

/**
 * Writes a stream to a new file and syncs it; returns its size in bytes. Reading goes on while the last batch is
 * written; at most two batches and a piece are held: pieces are copied, since their memory is the giver's again when the
 * next is asked for. What the stream itself throws passes unwrapped, and so does the signal's reason.
 */
export async function writeStream(
  file: FileHandle,
  content: ByteStream,
  signal: AbortSignal | undefined,
): Promise<number> {
  let written = 0
  let gathered = 0
  let batch: Buffer = Buffer.allocUnsafeSlow(batchBytes)
  let other: Buffer | undefined
  let unsynced = 0
  let writing: Promise<void> = Promise.resolve()
  let syncing: Promise<void> | undefined
  // The kernel reports a failed write-back to one sync only, so the first failure of any of them is kept.
  let failure: { readonly error: unknown } | undefined
  const fail = (error: unknown): void => {
    failure ??= { error: storageError('write', file.path, error) }
  }

  function check(): void {
    if (failure !== undefined) throw failure.error
  }

  async function flush(): Promise<void> {
    await writing
    check()
    const full = batch
    const offset = written
    writing = file.write([full.subarray(0, gathered)], offset).catch(fail)
    written += gathered
    unsynced += gathered
    gathered = 0
    batch = other ?? Buffer.allocUnsafeSlow(batchBytes)
    other = full
    if (unsynced >= syncEveryBytes && syncing === undefined) {
      unsynced = 0
      syncing = file
        .sync()
        .catch(fail)
        .finally(() => (syncing = undefined))
    }
  }

  try {
    for await (const piece of abortable(content, signal)) {
      // Memory shared with workers: `copy` takes a third of the time of `set`, which keeps each byte whole for others.
      const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.length)
      for (let done = 0; done < bytes.length; ) {
        const copied = bytes.copy(batch, gathered, done)
        gathered += copied
        done += copied
        if (gathered === batchBytes) await flush()
      }
    }
    await flush()
  } finally {
    // Whatever happened: nobody may close the file under a call that still runs.
    await writing
    await syncing
  }
  check()
  signal?.throwIfAborted()
  await file.sync().catch(fail)
  check()
  return written
}
