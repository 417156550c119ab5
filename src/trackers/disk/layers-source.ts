import type { LayersSource, SourceReader } from '../../model/source.js'
import { FrozenStack } from './frozen-stack.js'

/** Opens a checkpoint's bytes in this thread: reads go straight from the layers' files, synchronously. */
export function openLayersSource(source: LayersSource): SourceReader {
  const stack = new FrozenStack(source, undefined)
  return {
    read: (into, offset) => stack.read(into, offset),
    close: () => stack.close(),
  }
}
