import { readdirSync } from 'node:fs'
import { expect } from 'vitest'
import type { LiveMachine } from './live-machine.js'

interface Node {
  readonly 'node-name': string
  readonly 'dirty-bitmaps'?: readonly { readonly name?: string }[]
}

/** Names of everything of refpoint's that a machine and its folder hold, but for bitmaps that record. */
export async function leftOver({ qemu, folder }: LiveMachine): Promise<string[]> {
  const { monitor } = qemu
  const nodes = (await monitor.execute('query-named-block-nodes', { flat: true })) as readonly Node[]
  const exported = (await monitor.execute('query-block-exports')) as readonly { readonly id: string }[]
  const jobs = (await monitor.execute('query-jobs')) as readonly { readonly id: string }[]
  const objects = (await monitor.execute('qom-list', { path: '/objects' })) as readonly { readonly name: string }[]
  const names = [
    ...nodes.map((node) => node['node-name']),
    ...exported.map(({ id }) => id),
    ...jobs.map(({ id }) => id),
    ...objects.map(({ name }) => name),
    ...(await bitmapsOf(qemu.monitor)).filter((name) => name.endsWith('-frozen')),
  ]
  return [
    ...names.filter((name) => name.startsWith('refpoint-')),
    ...readdirSync(folder).filter((name) => name.startsWith('.fleecing-')),
  ]
}

/** Names of all bitmaps of refpoint's. */
export async function bitmapsOf(monitor: LiveMachine['qemu']['monitor']): Promise<string[]> {
  const nodes = (await monitor.execute('query-named-block-nodes', { flat: true })) as readonly Node[]
  return nodes
    .flatMap((node) => (node['dirty-bitmaps'] ?? []).map(({ name }) => name ?? ''))
    .filter((name) => name.startsWith('refpoint-'))
}

export async function expectNothingLeft(machine: LiveMachine): Promise<void> {
  expect(await leftOver(machine)).toEqual([])
}
