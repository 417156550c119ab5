import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type FoldPlan, parentOf, planFolds } from '../../src/model/fold-plan.js'
import type { PointManifest } from '../../src/model/manifest.js'
import { aPoint, aStore } from './manifests.js'

const mib = 1_048_576

/** A point with one store; `full` where it builds on nothing. */
function point(slot: number, parent: number | null, megabytes: number): PointManifest {
  const bytes = megabytes * mib
  return aPoint({
    point: slot,
    parent,
    archive: { name: `machines/web01/archives/${slot}.tar.zst`, bytes, sha256: '0'.repeat(64) },
    stores: [aStore({ mode: parent === null ? 'full' : 'tracked', contentBytes: bytes, changedBytes: bytes })],
  })
}

/** A full of `first` MiB and incrementals one after the other. */
function chain(first: number, ...rest: number[]): PointManifest[] {
  return [first, ...rest].map((megabytes, i) => point(i + 1, i === 0 ? null : i, megabytes))
}

function plan(points: readonly PointManifest[], kept: number[], damaged: number[] = []): FoldPlan {
  return planFolds({ points, kept: new Set(kept), damaged: new Set(damaged) })
}

describe('folding', () => {
  it('drops what nobody needs without folding', () => {
    const points = [point(1, null, 9), point(2, 1, 1), point(3, null, 9), point(4, 3, 1)]
    expect(plan(points, [4])).toEqual({ dropped: [1, 2], folds: [], needed: [3] })
    expect(plan(points, [1])).toEqual({ dropped: [2, 3, 4], folds: [], needed: [] })
  })

  it('leaves a large full as it is until a third of it was replaced', () => {
    expect(plan(chain(100, 30, 1), [2, 3])).toEqual({ dropped: [], folds: [], needed: [1] })
    expect(plan(chain(100, 40, 1), [2, 3])).toEqual({
      dropped: [1],
      folds: [{ target: 2, members: [2, 1], parent: null }],
      needed: [],
    })
  })

  it('folds a run in the middle into the point that stays', () => {
    expect(plan(chain(100, 1, 1, 1, 1), [1, 5])).toEqual({
      dropped: [2, 3, 4],
      folds: [{ target: 5, members: [5, 4, 3, 2], parent: 1 }],
      needed: [],
    })
  })

  it('does not move what is much larger than what follows it', () => {
    expect(plan(chain(1000, 100, 8, 2, 1, 1), [1, 6])).toEqual({
      dropped: [4, 5],
      folds: [{ target: 6, members: [6, 5, 4], parent: 3 }],
      needed: [2, 3],
    })
  })

  it('leaves a point alone on which several build, and what is damaged with all that it needs', () => {
    const fork = [...chain(9, 4), point(3, 2, 1), point(4, 2, 1)]
    expect(plan(fork, [3, 4])).toEqual({ dropped: [1], folds: [{ target: 2, members: [2, 1], parent: null }], needed: [2] })
    expect(plan(chain(9, 9, 9, 9), [4], [3, 4])).toEqual({ dropped: [], folds: [], needed: [1, 2, 3] })
    expect(plan(chain(9, 9, 9, 9), [2], [3, 4])).toMatchObject({ dropped: [1, 3, 4] })
  })

  it('takes a point with all stores in full for one that needs nothing, whatever it names', () => {
    const odd = { ...point(2, 1, 1), stores: [aStore({ mode: 'full' })] }
    expect(plan([point(1, null, 9), odd], [2])).toEqual({ dropped: [1], folds: [], needed: [] })
  })

  const anyTree = fc.array(fc.record({ back: fc.nat(20), megabytes: fc.integer({ min: 0, max: 300 }) }), { maxLength: 60 })
  const build = (tree: readonly { back: number; megabytes: number }[], branching: boolean): PointManifest[] =>
    tree.map(({ back, megabytes }, i) => {
      // Mostly the one before; now and then another one, or none.
      const parent = back === 0 || i === 0 ? null : back === 1 && branching ? Math.max(1, i - 4) : i
      return point(i + 1, parent, megabytes)
    })

  it('keeps every point that stays restorable, whatever the tree', () => {
    fc.assert(
      fc.property(anyTree, fc.infiniteStream(fc.nat(9)), (tree, dice) => {
        const points = build(tree, true)
        const draw = (below: number): number[] =>
          points.filter(() => dice.next().value < below).map((each) => each.point)
        const kept = draw(4)
        const damaged = draw(1)
        const { dropped, folds, needed } = plan(points, kept, damaged)
        const bySlot = new Map(points.map((each) => [each.point, each]))
        for (const slot of kept) expect(dropped).not.toContain(slot)
        expect([...dropped, ...needed, ...kept].sort((a, b) => a - b)).toEqual(points.map((each) => each.point))
        const folded = new Map(folds.map((fold) => [fold.target, fold]))
        for (const { target, members, parent } of folds) {
          expect(members[0]).toBe(target)
          expect(dropped).not.toContain(target)
          // Each member builds on the next, and the last on the fold's parent.
          for (const [i, member] of members.entries()) {
            expect(parentOf(bySlot.get(member))).toBe(members[i + 1] ?? parent)
            expect(damaged).not.toContain(member)
          }
        }
        for (const each of points) {
          if (dropped.includes(each.point)) continue
          const fold = folded.get(each.point)
          const parent = fold === undefined ? parentOf(each) : fold.parent
          if (parent !== null) expect(dropped).not.toContain(parent)
        }
      }),
    )
  })

  it('leaves at most log2 of the largest archive and one more in each run, and little dead in a full', () => {
    fc.assert(
      fc.property(anyTree, fc.infiniteStream(fc.nat(9)), (tree, dice) => {
        const points = build(tree, false)
        const kept = points.filter(() => dice.next().value < 3).map((each) => each.point)
        const { dropped, folds } = plan(points, kept)
        const size = new Map(points.map((each) => [each.point, Math.max(mib, each.archive.bytes)]))
        const groups = new Map(folds.map(({ target, members }) => [target, members]))
        const sizeAfter = (slot: number): number =>
          (groups.get(slot) ?? [slot]).reduce((sum, member) => sum + (size.get(member) ?? 0), 0)
        let run: number[] = []
        for (const { point: slot, parent } of points) {
          if (parent === null) run = []
          if (dropped.includes(slot)) continue
          run.push(slot)
          if (!kept.includes(slot)) continue
          const isFull = groups.get(run[0] ?? 0)?.includes(1) ?? points[(run[0] ?? 1) - 1]?.parent === null
          const rest = isFull && run.length > 1 ? run.slice(1) : run
          const largest = Math.max(...rest.map(sizeAfter))
          expect(rest.length).toBeLessThanOrEqual(Math.floor(Math.log2(largest / mib)) + 1)
          const [first, ...others] = run
          if (isFull && others.length > 0) {
            const dead = others.reduce((sum, each) => sum + sizeAfter(each), 0)
            expect(dead).toBeLessThanOrEqual(sizeAfter(first ?? 0) / 3)
          }
          run = []
        }
      }),
    )
  })

  it('moves each byte a bounded number of times over years of nightly pruning', () => {
    // A disk of 10 GiB, 64 to 512 MiB a day, 14 dailies and 8 Sundays are kept.
    let points: PointManifest[] = []
    let moved = 0
    let taken = 0
    const draw = fc.sample(fc.integer({ min: 64, max: 512 }), { numRuns: 730, seed: 7 })
    for (const [i, megabytes] of draw.entries()) {
      const slot = i + 1
      points.push(point(slot, points.at(-1)?.point ?? null, i === 0 ? 10_240 : megabytes))
      taken += megabytes
      const kept = points.map((each) => each.point).filter((each) => each > slot - 14 || (each % 7 === 0 && each > slot - 56))
      const { folds, dropped } = plan(points, kept)
      const bySlot = new Map(points.map((each) => [each.point, each]))
      const folded = folds.map(({ target, members, parent }) => {
        const sum = members.reduce((bytes, member) => bytes + (bySlot.get(member)?.archive.bytes ?? 0), 0) / mib
        // What is in all of them is there once: at most the disk.
        const megabytesAfter = parent === null ? Math.min(sum, 10_240) : sum
        moved += megabytesAfter
        return point(target, parent, megabytesAfter)
      })
      points = points
        .filter((each) => !dropped.includes(each.point))
        .map((each) => folded.find((fold) => fold.point === each.point) ?? each)
    }
    expect(moved / taken).toBeLessThan(8)
    expect(points.length).toBeLessThan(14 + 8 + 12)
  })
})
