/**
 * How many points each rule keeps; a rule that is absent keeps none. As in restic: each rule goes through the points
 * by itself, from the newest, and keeps the newest of every period until it has so many.
 */
export interface KeepRules {
  readonly last?: number
  readonly hourly?: number
  readonly daily?: number
  readonly weekly?: number
  readonly monthly?: number
  readonly yearly?: number
}

export type KeepRule = keyof KeepRules

/** In the order in which they are told. */
export const keepRuleNames: readonly KeepRule[] = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly']

/** One point as retention sees it. */
export interface RetentionPoint {
  readonly point: number
  /** The instant of its checkpoint: milliseconds since 1970, UTC. */
  readonly timeMs: number
  /** Known not to be restorable: it takes no good point's place. */
  readonly damaged: boolean
  readonly held: boolean
}

export interface RetentionInput {
  readonly rules: KeepRules
  /** Any order. */
  readonly points: readonly RetentionPoint[]
  /** Minutes that local time is ahead of UTC at an instant, in the zone whose days and weeks are meant. */
  readonly offsetMinutes: (timeMs: number) => number
}

/** Why a point stays: a rule, or that it is held, or that it is the newest that can be restored. */
export type KeepReason = KeepRule | 'held' | 'newest'

const hourMs = 3_600_000
const dayMs = 24 * hourMs

/**
 * Which points stay, and why; those that are not in the result go. Slots alone say what is newer: a clock that jumped
 * may put a point into a wrong period, but never makes an old point the newest of one.
 *
 * Rules choose among points that can be restored. A damaged one stays for as long as the rules would name it if it were
 * whole, since parts of it may be all that there is; it never pushes a whole one out. The newest whole point always
 * stays, and so does the newest of all.
 */
export function chooseKept(input: RetentionInput): ReadonlyMap<number, readonly KeepReason[]> {
  const all = [...input.points].sort((a, b) => b.point - a.point)
  const good = all.filter((point) => !point.damaged)
  const reasons = new Map<number, KeepReason[]>()
  const keep = (point: number, reason: KeepReason): void => {
    const known = reasons.get(point)
    if (known === undefined) reasons.set(point, [reason])
    else if (!known.includes(reason)) known.push(reason)
  }
  for (const newest of [all[0], good[0]]) if (newest !== undefined) keep(newest.point, 'newest')
  for (const rule of keepRuleNames) {
    const count = input.rules[rule] ?? 0
    for (const point of newestOfPeriods(good, rule, count, input.offsetMinutes)) keep(point.point, rule)
    if (good.length === all.length) continue
    for (const point of newestOfPeriods(all, rule, count, input.offsetMinutes)) {
      if (point.damaged) keep(point.point, rule)
    }
  }
  for (const point of all) if (point.held) keep(point.point, 'held')
  return reasons
}

/** @param points newest first. */
function newestOfPeriods(
  points: readonly RetentionPoint[],
  rule: KeepRule,
  count: number,
  offsetMinutes: (timeMs: number) => number,
): readonly RetentionPoint[] {
  if (count <= 0) return []
  const seen = new Set<number>()
  const chosen: RetentionPoint[] = []
  for (const point of points) {
    const period = rule === 'last' ? point.point : periodOf(rule, point.timeMs, offsetMinutes(point.timeMs))
    if (seen.has(period)) continue
    seen.add(period)
    chosen.push(point)
    if (chosen.length === count) break
  }
  return chosen
}

/** A number that all instants of one local hour, day, ISO week, month or year share, and no others of its rule. */
function periodOf(rule: Exclude<KeepRule, 'last'>, timeMs: number, offsetMinutes: number): number {
  const localMs = timeMs + offsetMinutes * 60_000
  const day = Math.floor(localMs / dayMs)
  switch (rule) {
    case 'hourly':
      // Elapsed hours, so that the hour that a change of clocks repeats is two; zones are off by half hours, too.
      return Math.floor((timeMs + (offsetMinutes % 60) * 60_000) / hourMs)
    case 'daily':
      return day
    case 'weekly':
      // The week's Monday: 1970-01-01 was a Thursday.
      return day - ((((day + 3) % 7) + 7) % 7)
    case 'monthly': {
      const local = new Date(localMs)
      return local.getUTCFullYear() * 12 + local.getUTCMonth()
    }
    case 'yearly':
      return new Date(localMs).getUTCFullYear()
  }
}
