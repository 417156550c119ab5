import { describe, expect, it } from 'vitest'
import type { Source, SourceReader } from '../../src/model/source.js'
import { OpenFiles } from '../../src/operations/tasks/open-files.js'

const source: Source = { kind: 'file', path: '/proc/1/fd/3', sizeBytes: 512 }

function counting() {
  const opened: SourceReader[] = []
  const closed: SourceReader[] = []
  const files = new OpenFiles(async () => {
    const reader: SourceReader = { read: () => undefined, close: () => void closed.push(reader) }
    opened.push(reader)
    return reader
  })
  return { files, opened, closed }
}

describe('what a worker keeps open', () => {
  it('is one reader for each store of each run: the same place holds other bytes in the next run', async () => {
    const { files, opened } = counting()
    const first = await files.source('run 1', source)
    expect(await files.source('run 1', source)).toBe(first)
    expect(await files.source('run 2', source)).not.toBe(first)
    expect(opened).toHaveLength(2)
  })

  it('is closed when it is told that a run is done, and only that of this run', async () => {
    const { files, opened, closed } = counting()
    await files.source('run 1', source)
    const second = await files.source('run 2', source)
    await files.closeSources(['run 1', 'run 3'])
    expect(closed).toEqual([opened[0]])
    expect(await files.source('run 2', source)).toBe(second)
    await files.source('run 1', source)
    expect(opened).toHaveLength(3)
  })

  it('is not more than a few, the longest unused closed first, and nothing in the end', async () => {
    const { files, opened, closed } = counting()
    for (let run = 0; run < 9; run++) {
      await files.source(`run ${run}`, source)
      await files.source('run 0', source)
    }
    expect(closed).toEqual([opened[1]])
    await files.closeAll()
    expect(new Set(closed)).toEqual(new Set(opened))
  })
})
