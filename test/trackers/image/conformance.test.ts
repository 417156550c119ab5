import { open, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { SourceReader } from '../../../src/model/source.js'
import { openFileSource } from '../../../src/trackers/image/file-source.js'
import { createImageTracker } from '../../../src/trackers/image/image-tracker.js'
import { describeTracker, type TrackedMachine } from '../../conformance/tracker.js'
import { temporaryFolder } from '../../temporary.js'

const sizes = { root: 6 * 1024 * 1024, data: 4 * 1024 * 1024 } as const

/** Two raw images that nobody has open but while a "guest" writes: a machine that is off at every checkpoint. */
async function imageFiles(): Promise<TrackedMachine> {
  const folder = temporaryFolder()
  const paths: Readonly<Record<string, string>> = { root: join(folder, 'root.img'), data: join(folder, 'data.img') }
  const pathOf = (store: string): string => {
    const path = paths[store]
    if (path === undefined) throw new RangeError(`no store ${store}`)
    return path
  }
  const stores = Object.fromEntries(Object.entries(paths).map(([name, path]) => [name, { path }]))
  for (const name of ['root', 'data'] as const) {
    await writeFile(pathOf(name), '')
    await truncate(pathOf(name), sizes[name])
  }
  const trackerOf = () => createImageTracker({ stores, allowTorn: false })
  const write = async (store: string, bytes: Uint8Array, offset: number): Promise<void> => {
    const file = await open(pathOf(store), 'r+')
    try {
      await file.write(bytes, 0, bytes.length, offset)
      await file.datasync()
    } finally {
      await file.close()
    }
  }
  return {
    tracker: trackerOf(),
    another: trackerOf,
    stores: [
      { name: 'root', sizeBytes: sizes.root },
      { name: 'data', sizeBytes: sizes.data },
    ],
    files: [],
    write,
    zero: (store, offset, length) => write(store, new Uint8Array(length), offset),
    openSource(source): Promise<SourceReader> {
      if (source.kind !== 'file') throw new Error(`a source of kind ${source.kind}`)
      return Promise.resolve(openFileSource(source))
    },
    // A file has no process that could crash: what was written is there.
    crashLayer: () => Promise.resolve(),
    resize: async (store, sizeBytes) => await truncate(pathOf(store), sizeBytes),
  }
}

describeTracker({ name: 'image files', machine: imageFiles, writesWhileHeld: false })
