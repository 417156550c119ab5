/** Random choices that a seed makes again. */
export interface Random {
  readonly seed: number
  /** 0 to `below` - 1. */
  int(below: number): number
  pick<T>(choices: readonly [T, ...T[]]): T
  chance(probability: number): boolean
  bytes(count: number): Buffer
}

/** The seed is REFPOINT_FUZZ_SEED, or a new one; printed, so that a failure can be had again. */
export function printedRandom(what: string): Random {
  const given = process.env['REFPOINT_FUZZ_SEED']
  const seed = given === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(given)
  console.log(`${what}: REFPOINT_FUZZ_SEED=${seed}`)
  return random(seed)
}

export function random(seed: number): Random {
  let state = seed >>> 0
  // The mixing steps of splitmix32.
  const next = (): number => {
    state = (state + 0x9e3779b9) >>> 0
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32
  }
  const int = (below: number): number => Math.floor(next() * below)
  return {
    seed,
    int,
    pick: (choices) => choices[int(choices.length)] ?? choices[0],
    chance: (probability) => next() < probability,
    bytes: (count) => Buffer.from(Array.from({ length: count }, () => int(256))),
  }
}

/** One small damage: a flipped bit, an edge value, bytes cut out, doubled or added. */
export function mutate(bytes: Buffer, { int, pick, bytes: randomBytes }: Random): Buffer {
  if (bytes.length === 0) return randomBytes(int(40))
  const at = int(bytes.length)
  const end = Math.min(bytes.length, at + 1 + int(40))
  return pick<() => Buffer>([
    () => {
      const damaged = Buffer.from(bytes)
      damaged[at] = (damaged[at] ?? 0) ^ (1 << int(8))
      return damaged
    },
    () => {
      const damaged = Buffer.from(bytes)
      const edge = Buffer.alloc(4)
      edge.writeUInt32BE(pick([0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 32 * 1024 * 1024, 65_536]))
      edge.copy(damaged, at)
      return damaged
    },
    () => Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]),
    () => Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)]),
    () => Buffer.concat([bytes.subarray(0, at), randomBytes(1 + int(60)), bytes.subarray(at)]),
    () => bytes.subarray(0, at),
  ])()
}
