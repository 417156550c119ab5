import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'

export const unitBytes = 4096
const blockBytes = 65_536
const zeroes = Buffer.alloc(blockBytes)

/**
 * One simulated disk: its content, in memory and in a file that backups read; what changed since each generation; and
 * what the chain of backups must hold of it, which is something else where a tracker has lied.
 */
export class Disk {
  /** Units that were written since the last point, for the ideal size of what is stored. */
  dirty = new Set()
  /** By generation: units written in it. The last one is the one that is open. */
  #generations = [new Set()]
  /** Units whose change the tracker keeps to itself, once. */
  #hidden = new Set()
  #resized = false

  constructor(name, path, sizeBytes, dice) {
    this.name = name
    this.path = path
    this.dice = dice
    this.content = Buffer.alloc(sizeBytes)
    /** What the newest point must restore to. */
    this.stored = Buffer.alloc(0)
    /** What the newest point's digests are of: the disk, wherever a block was named at all. */
    this.digested = Buffer.alloc(0)
    this.fd = openSync(path, 'w+', 0o600)
    ftruncateSync(this.fd, sizeBytes)
  }

  get sizeBytes() {
    return this.content.length
  }

  get generation() {
    return this.#generations.length - 1
  }

  write(offset, bytes) {
    bytes.copy(this.content, offset)
    writeSync(this.fd, bytes, 0, bytes.length, offset)
    this.#touch(offset, bytes.length)
  }

  zero(offset, length) {
    this.write(offset, Buffer.alloc(length))
  }

  /** A write that the tracker does not report. */
  lie(offset, bytes) {
    this.write(offset, bytes)
    for (let unit = Math.floor(offset / unitBytes); unit * unitBytes < offset + bytes.length; unit += 1) this.#hidden.add(unit)
  }

  resize(sizeBytes) {
    const grown = Buffer.alloc(sizeBytes)
    this.content.copy(grown)
    this.content = grown
    ftruncateSync(this.fd, sizeBytes)
    this.#resized = true
    const units = Math.ceil(sizeBytes / unitBytes)
    this.dirty = new Set([...this.dirty].filter((unit) => unit < units))
  }

  /** Ends a generation; returns its number. */
  seal() {
    this.#generations.push(new Set())
    return this.#generations.length - 2
  }

  /** Ranges written after a generation ended and before the open one, less what is kept to itself. */
  changedSince(generation) {
    const units = new Set()
    for (const each of this.#generations.slice(generation + 1)) for (const unit of each) units.add(unit)
    for (const unit of this.#hidden) units.delete(unit)
    return toRanges(units, this.sizeBytes)
  }

  /** A point was committed that names what `ranges` says (undefined: it holds the whole disk). */
  committed(ranges) {
    const before = this.stored
    if (ranges === undefined || this.#resized) {
      this.stored = Buffer.from(this.content)
      this.digested = Buffer.from(this.content)
    } else {
      this.stored = Buffer.from(before)
      for (const { offset, length } of ranges) this.#store(offset, length)
    }
    this.#hidden.clear()
    this.#resized = false
    const dirty = this.dirty
    this.dirty = new Set()
    // Nobody asks for what was before: only the newest reference point is gone on from.
    for (const each of this.#generations.slice(0, -2)) each.clear()
    return dirty
  }

  /** A range was named: it is stored, and of its blocks the digests are those of the whole. */
  #store(offset, length) {
    this.content.copy(this.stored, offset, offset, offset + length)
    for (let at = offset - (offset % blockBytes); at < offset + length; at += blockBytes) {
      const block = this.content.subarray(at, at + blockBytes)
      block.copy(this.digested, at)
      // A block of zeroes is stored whole.
      if (block.equals(zeroes.subarray(0, block.length))) block.copy(this.stored, at)
    }
  }

  /** Whether the newest point can be restored; else it holds a block that does not have its digest, and must say so. */
  get isRestorable() {
    return this.stored.equals(this.digested)
  }

  /** Whether the newest point holds something else than the disk did. */
  get isLiedAbout() {
    return !this.stored.equals(this.content)
  }

  close() {
    closeSync(this.fd)
  }

  #touch(offset, length) {
    for (let unit = Math.floor(offset / unitBytes); unit * unitBytes < offset + length; unit += 1) {
      this.#generations.at(-1).add(unit)
      this.dirty.add(unit)
    }
  }
}

function toRanges(units, sizeBytes) {
  const ranges = []
  for (const unit of [...units].sort((a, b) => a - b)) {
    const offset = unit * unitBytes
    if (offset >= sizeBytes) break
    const length = Math.min(unitBytes, sizeBytes - offset)
    const last = ranges.at(-1)
    if (last !== undefined && last.offset + last.length === offset) last.length += length
    else ranges.push({ offset, length })
  }
  return ranges
}
