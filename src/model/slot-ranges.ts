/** First and last, both included; ascending, neither overlapping nor touching. */
export type SlotRanges = readonly (readonly [number, number])[]

/** The fewest ranges that hold just what these ranges and slots hold. */
export function joinSlots(ranges: SlotRanges, slots: Iterable<number>): SlotRanges {
  const all = [...ranges, ...[...slots].map((slot) => [slot, slot] as const)].sort(([a], [b]) => a - b)
  const joined: [number, number][] = []
  for (const [first, end] of all) {
    const last = joined.at(-1)
    if (last !== undefined && first <= last[1] + 1) last[1] = Math.max(last[1], end)
    else joined.push([first, end])
  }
  return joined
}

/** The same without these slots. */
export function withoutSlots(ranges: SlotRanges, slots: Iterable<number>): SlotRanges {
  let left = ranges
  for (const slot of slots) {
    if (!inRanges(left, slot)) continue
    left = left.flatMap(([first, last]) => {
      if (slot < first || slot > last) return [[first, last] as const]
      return ([[first, slot - 1], [slot + 1, last]] as const).filter(([from, to]) => from <= to)
    })
  }
  return left
}

/** Whether a slot is in one of the ranges. */
export function inRanges(ranges: SlotRanges, slot: number): boolean {
  let low = 0
  let high = ranges.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((ranges[middle]?.[1] ?? 0) < slot) low = middle + 1
    else high = middle
  }
  return (ranges[low]?.[0] ?? Infinity) <= slot
}
