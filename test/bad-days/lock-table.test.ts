import { type ChildProcess, spawn } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, onTestFinished } from 'vitest'
import { changed, contentOf, expectRestores, expectSame, expectVerifies, filesBelow, openScene, type Scene, type Taken } from './scene.js'

/*
 * The pairs of src/repository/LOCKS.md with real processes: one is stopped at its worst place, the other runs to its
 * end, on the same host or (in other namespaces) as from another, and then the first is woken. Whatever each of them
 * ends with, no point that is listed is anything but what it was, none is gone that no prune dropped, and a prune after
 * all that leaves no object that nobody needs.
 */

const config = `
repository: ./repository
defaults: { keep: { last: 2 }, compression: { workers: 1 } }
machines:
  web01:
    tracker: image
    stores: { root: ./root.img }
`
const bytes = 256 * 1024 + 512
const actor = join(import.meta.dirname, 'lock-actor.mjs')

/** The same history for every row: taken once, copied then. */
const kept = mkdtempSync(join(tmpdir(), 'refpoint-test-'))
let history: readonly Taken[] | undefined
afterAll(() => rmSync(kept, { recursive: true, force: true }))

async function takeFive(scene: Scene): Promise<readonly Taken[]> {
  if (history === undefined) {
    history = await takeNew(scene)
    cpSync(scene.repository, kept, { recursive: true })
  } else {
    cpSync(kept, scene.repository, { recursive: true })
    writeFileSync(scene.path('root.img'), history.at(-1)?.content ?? '')
  }
  return history
}

async function takeNew(scene: Scene): Promise<readonly Taken[]> {
  await scene.ok(['init'])
  const taken: Taken[] = []
  let content = contentOf(1, bytes)
  for (const point of [1, 2, 3, 4, 5]) {
    if (point > 1) content = changed(content, point)
    writeFileSync(scene.path('root.img'), content)
    await scene.ok(['backup'])
    taken.push({ point, content })
  }
  return taken
}

interface Acting {
  readonly child: ChildProcess
  readonly ended: Promise<{ readonly status: number; readonly stdout: string; readonly stderr: string }>
}

function act(scene: Scene, args: readonly string[], through: readonly string[] = []): Acting {
  const [command = process.execPath, ...rest] = [...through, process.execPath, actor, scene.path('refpoint.yaml'), ...args]
  const child = spawn(command, rest, { cwd: scene.folder, stdio: ['ignore', 'pipe', 'pipe'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (data: Buffer) => (stdout += data.toString()))
  child.stderr.on('data', (data: Buffer) => (stderr += data.toString()))
  const ended = new Promise<{ status: number; stdout: string; stderr: string }>((done) =>
    child.on('close', (code) => done({ status: code ?? -1, stdout, stderr })),
  )
  return { child, ended }
}

async function untilStopped({ child, ended }: Acting): Promise<void> {
  for (;;) {
    if (child.exitCode !== null) throw new Error(`it ended before it stopped: ${(await ended).stderr}`)
    const stat = readFileSync(`/proc/${child.pid}/stat`, 'latin1')
    if (stat.slice(stat.lastIndexOf(')') + 2).startsWith('T')) return
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** Runs an operation to its end; while it finds the machine locked it comes again. */
async function persist(scene: Scene, operation: string, through: readonly string[]): Promise<void> {
  for (;;) {
    const { status, stderr } = await act(scene, [operation], through).ended
    if (status === 0) return
    expect(status, `${operation}: ${stderr}`).toBe(11)
  }
}

async function listed(scene: Scene): Promise<readonly number[]> {
  const { stdout } = await scene.ok(['points', 'web01', '--json'])
  const { machines } = JSON.parse(stdout) as { machines: { points: { point: number }[] }[] }
  return machines.flatMap(({ points }) => points.map(({ point }) => point))
}

/** Pins that are left: there is no such folder where nobody ever read. */
function readers(scene: Scene): readonly string[] {
  return filesBelow(join(scene.repository, 'machines/web01/readers')).filter((name) => name.endsWith('.json'))
}

interface Row {
  readonly sleeper: string
  /** The call before which it stops: method, pattern of its name, the how manieth, and after the claim of what. */
  readonly at: readonly [method: string, pattern: string, nth: number, after?: string]
  readonly other: string
  /** What the sleeper ends with when it is woken: on this host, and from another. */
  readonly ends: readonly [here: number, elsewhere: number]
  /** Where it is tried in every run of the tests; with REFPOINT_LONG=1 both places are. */
  readonly always?: 'here' | 'elsewhere'
}

const rows: readonly Row[] = [
  { sleeper: 'backup', at: ['claim', '/points/', 1], other: 'backup', ends: [11, 11] },
  { sleeper: 'backup', at: ['claim', '/points/', 1], other: 'prune', ends: [11, 11], always: 'here' },
  { sleeper: 'backup', at: ['list', 'archives', 1], other: 'prune', ends: [11, 11], always: 'elsewhere' },
  { sleeper: 'prune', at: ['list', 'archives', 1], other: 'backup', ends: [11, 11] },
  { sleeper: 'prune', at: ['put', '/archives/', 1], other: 'backup', ends: [11, 11] },
  { sleeper: 'prune', at: ['claim', '\\.r\\d+\\.json', 1], other: 'prune', ends: [11, 11], always: 'here' },
  { sleeper: 'prune', at: ['claim', '/points/\\d+\\.json', 1], other: 'backup', ends: [11, 11], always: 'elsewhere' },
  { sleeper: 'prune', at: ['claim', '/points/\\d+\\.json', 1], other: 'prune', ends: [11, 11], always: 'here' },
  { sleeper: 'prune', at: ['claim', '/points/\\d+\\.json', 1], other: 'hold', ends: [11, 11] },
  // Its fold is committed: it has happened, whoever removes what it gave up.
  { sleeper: 'prune', at: ['remove', '/points/', 1], other: 'backup', ends: [0, 0], always: 'here' },
  { sleeper: 'prune', at: ['remove', '/points/', 1], other: 'prune', ends: [0, 0] },
  { sleeper: 'hold', at: ['claim', '/holds/', 1], other: 'prune', ends: [11, 11] },
  { sleeper: 'hold', at: ['children', '/locks', 1, '/holds/'], other: 'prune', ends: [11, 11], always: 'here' },
  // A reader of this host is seen to be there for as long as it sleeps.
  { sleeper: 'restore', at: ['children', '/points', 2], other: 'prune', ends: [0, 0] },
  { sleeper: 'restore', at: ['locate', '/archives/', 1], other: 'prune', ends: [0, 11], always: 'here' },
  { sleeper: 'verify', at: ['locate', '/archives/', 1], other: 'prune', ends: [0, 11], always: 'elsewhere' },
  { sleeper: 'verify', at: ['locate', '/archives/', 1], other: 'backup', ends: [0, 0] },
  { sleeper: 'copy', at: ['locate', '/archives/', 1], other: 'prune', ends: [0, 11], always: 'here' },
  { sleeper: 'copy', at: ['locate', '/archives/', 2], other: 'backup', ends: [0, 0] },
]

const places = [
  { place: 'here', through: [] as string[] },
  { place: 'elsewhere', through: ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc'] },
] as const
const all = process.env['REFPOINT_LONG'] === '1'

describe.each(places)('with the other run $place', ({ place, through }) => {
  const asRoot = process.getuid?.() === 0
  it.skipIf(place === 'elsewhere' && !asRoot).each(rows.filter(({ always }) => all || always === place))(
    '$sleeper asleep before $at, and $other',
    async ({ sleeper, at, other, ends }) => {
      const scene = openScene(config, { within: true })
      const taken = await takeFive(scene)
      await scene.ok(['init', scene.path('copy')])
      const sleeping = act(scene, [sleeper, ...at.map(String)])
      await untilStopped(sleeping)
      await persist(scene, other, through)
      sleeping.child.kill('SIGCONT')
      const { status, stdout, stderr } = await sleeping.ended
      expect(status, stderr).toBe(ends[place === 'here' ? 0 : 1])

      const points = await listed(scene)
      const pruned = [sleeper, other].includes('prune') && !(sleeper === 'prune' && status === 11 && other !== 'prune')
      const held = other === 'hold' || (sleeper === 'hold' && status === 0)
      const contents = new Map(taken.map(({ point, content }) => [point, content]))
      for (const { point } of taken) {
        if (!pruned || point >= 4 || (held && point === 2)) expect(points, `point #${point}`).toContain(point)
      }
      if (pruned) for (const point of [1, 3]) expect(points).not.toContain(point)
      for (const point of points) await expectRestores(scene, { point, content: contents.get(point) ?? taken[4]?.content ?? Buffer.alloc(0) })
      const read = /restored #(\d+)/.exec(stdout)?.[1]
      if (sleeper === 'copy' && status === 0) {
        const { stdout: there } = await scene.ok(['points', 'web01', '--json', '--repository', scene.path('copy')])
        const { machines } = JSON.parse(there) as { machines: { points: { point: number }[] }[] }
        expect(machines[0]?.points.map(({ point }) => point)).toEqual(taken.map(({ point }) => point))
        await scene.ok(['verify', '--repository', scene.path('copy')])
      }
      if (read !== undefined) {
        const restored = readFileSync(scene.path('restored-by-actor/root.raw'))
        expectSame(restored, contents.get(Number(read)) ?? Buffer.alloc(0), 'what the sleeper restored')
      }
      await expectVerifies(scene)
      await scene.ok(['prune'])
      expect(readdirSync(join(scene.repository, 'machines/web01/archives'))).toHaveLength((await listed(scene)).length)
      expect(readers(scene)).toEqual([])
      await expectVerifies(scene)
    },
  )
})
