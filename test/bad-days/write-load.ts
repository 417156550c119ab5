import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { crc32 } from 'node:zlib'
import { expect, onTestFinished } from 'vitest'
import { systemPython } from '../layers.js'

const blockBytes = 4096

interface Write {
  readonly store: number
  readonly block: number
}

/** A client that writes self-describing blocks to the disks of a machine, one after the other, over all of them. */
export class WriteLoad {
  /** By sequence number, from 1. */
  readonly writes: Write[] = []
  readonly #tell: (line: string) => void
  readonly #answers: AsyncIterator<string>

  private constructor(tell: (line: string) => void, answers: AsyncIterator<string>) {
    this.#tell = tell
    this.#answers = answers
  }

  static async start(seed: number, blocks: number, uris: readonly string[]): Promise<WriteLoad> {
    const args = [join(import.meta.dirname, 'write-load.py'), String(seed), String(blocks), ...uris]
    const child = spawn(systemPython, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    onTestFinished(() => void child.kill('SIGKILL'))
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const load = new WriteLoad((line) => void child.stdin.write(`${line}\n`), lines)
    await load.#answer('ready')
    return load
  }

  go(): void {
    this.#tell('go')
  }

  /** Stops writing; everything written is flushed. Resolves to the last write's number. */
  async pause(): Promise<number> {
    this.#tell('pause')
    const answer = await this.#answer('paused')
    return Number(answer.split(' ')[1])
  }

  /** Reads the disks into files, by this client. */
  async read(paths: readonly string[]): Promise<void> {
    this.#tell(`read ${paths.join(' ')}`)
    await this.#answer('read')
  }

  async #answer(word: string): Promise<string> {
    for (;;) {
      const next = await this.#answers.next()
      if (next.done === true) throw new Error('the writing client has ended')
      if (next.value.startsWith(word)) return next.value
      const [sequence = 0, store = 0, offset = 0] = next.value.split(' ').map(Number)
      this.writes[sequence] = { store, block: offset / blockBytes }
    }
  }

  /**
   * The disks are as they were right after one of the writes, all of them after the same one: nothing before it is
   * missing, and nothing after it is there. Returns its number.
   */
  expectInstant(disks: readonly Buffer[], what: string): number {
    const instant = Math.max(0, ...disks.flatMap((disk) => blocksOf(disk).map(sequenceOf)))
    const last = disks.map(() => new Map<number, number>())
    for (let number = 1; number <= instant; number += 1) {
      const write = this.writes[number]
      if (write !== undefined) last[write.store]?.set(write.block, number)
    }
    disks.forEach((disk, store) => {
      blocksOf(disk).forEach((block, index) => {
        const where = `${what}: store ${store}, block ${index} (instant ${instant})`
        const expected = last[store]?.get(index) ?? 0
        if (sequenceOf(block) !== expected) expect(sequenceOf(block), where).toBe(expected)
        if (expected > 0) expectWhole(block, store, index, where)
        else if (block.some((byte) => byte !== 0)) expect.fail(`${where} was never written and is not zero`)
      })
    })
    return instant
  }
}

function blocksOf(disk: Buffer): Buffer[] {
  return Array.from({ length: disk.length / blockBytes }, (_, n) => disk.subarray(n * blockBytes, (n + 1) * blockBytes))
}

function sequenceOf(block: Buffer): number {
  return Number(block.readBigUInt64LE(16))
}

function expectWhole(block: Buffer, store: number, index: number, where: string): void {
  const described = [Number(block.readBigUInt64LE(0)), Number(block.readBigUInt64LE(8))]
  if (described[0] !== store || described[1] !== index * blockBytes) {
    expect(described, `${where}: is of another place`).toEqual([store, index * blockBytes])
  }
  const sum = crc32(block.subarray(0, blockBytes - 4))
  if (block.readUInt32LE(blockBytes - 4) !== sum) expect.fail(`${where}: its checksum does not hold`)
}
