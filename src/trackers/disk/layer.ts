import type { FileHandle, Files } from '../../files/files.js'
import { BaseMap } from './base-map.js'
import { Directory } from './directory.js'
import { dataPath, type LayerRecord, mapPath } from './disk-file.js'
import type { LayerMap } from './layer-map.js'
import { checkMapHeader, encodeMapHeader, headerBytes, regionCount } from './map-layout.js'
import { OverlayMap } from './overlay-map.js'

export interface LayerPlace {
  readonly files: Files
  readonly folder: string
  readonly sizeBytes: number
  readonly blockBytes: number
}

/** An open layer: a sparse raw file with the data at its natural offsets, and its map. */
export class Layer {
  record: LayerRecord
  readonly data: FileHandle
  readonly map: LayerMap
  /** The same map, where the layer is an overlay. */
  readonly overlay: OverlayMap | undefined
  readonly #mapHandle: FileHandle
  #dirty = false

  constructor(record: LayerRecord, data: FileHandle, mapHandle: FileHandle, map: BaseMap | OverlayMap) {
    this.record = record
    this.data = data
    this.#mapHandle = mapHandle
    this.map = map
    this.overlay = map instanceof OverlayMap ? map : undefined
  }

  get id(): number {
    return this.record.id
  }

  /** Said after every change of the data file. */
  touched(): void {
    this.#dirty = true
  }

  /**
   * Takes what has been written so far; the function returned makes that durable: data before presence. Undefined when
   * there is nothing. Functions of one layer are carried out in the order in which they were taken.
   */
  snapshot(): (() => Promise<void>) | undefined {
    const dirty = this.#dirty
    const map = this.map.snapshot()
    if (!dirty && map === undefined) return undefined
    this.#dirty = false
    return async () => {
      await Promise.all([dirty ? this.data.sync() : undefined, map?.before()])
      await map?.after()
    }
  }

  /** Makes everything durable and the map exact. No writes may be under way. */
  async settle(): Promise<void> {
    await this.snapshot()?.()
    await this.map.settle()
  }

  async close(): Promise<void> {
    await this.data.close()
    await this.#mapHandle.close()
  }
}

/** Creates a layer's two files; durable when it resolves, so that disk.json may speak of them. */
export async function createLayerFiles(place: LayerPlace, id: number): Promise<void> {
  const data = await place.files.open(dataPath(place.folder, id), 'create')
  try {
    await data.truncate(place.sizeBytes)
    await data.sync()
  } finally {
    await data.close()
  }
  await createMapFile(place, id)
  await place.files.syncFolder(place.folder)
}

/** Not durable before the folder is synced. */
export async function createMapFile(place: LayerPlace, id: number): Promise<void> {
  const map = await place.files.open(mapPath(place.folder, id), 'create')
  try {
    await map.write([encodeMapHeader(place.blockBytes)], 0)
    await map.sync()
  } finally {
    await map.close()
  }
}

export async function openLayer(place: LayerPlace, record: LayerRecord, kind: 'base' | 'overlay'): Promise<Layer> {
  const data = await place.files.open(dataPath(place.folder, record.id), 'write')
  let mapHandle: FileHandle | undefined
  try {
    mapHandle = await place.files.open(mapPath(place.folder, record.id), 'write')
    const header = new Uint8Array(headerBytes)
    const count = await mapHandle.read(header, 0)
    checkMapHeader(header.subarray(0, count), mapHandle.path, place.blockBytes)
    const directory = await Directory.load(mapHandle, regionCount(place.sizeBytes, place.blockBytes))
    const map = kind === 'base' ? new BaseMap(mapHandle, directory) : new OverlayMap(mapHandle, directory)
    return new Layer(record, data, mapHandle, map)
  } catch (error) {
    await data.close()
    await mapHandle?.close()
    throw error
  }
}

/** Removes a layer's files; what is not there is fine. */
export async function removeLayerFiles(files: Files, folder: string, id: number): Promise<void> {
  for (const path of [dataPath(folder, id), mapPath(folder, id)]) {
    if (await files.exists(path)) await files.unlink(path)
  }
}
