import { renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { MACHINE_DOCUMENT } from '../../../../src/trackers/qemu/machine/document.js'
import { recallMachine } from '../../../../src/trackers/qemu/machine/recall-machine.js'
import { temporaryFolder } from '../../../temporary.js'
import { diskOf, machineOf } from './document.js'

/** What a point of a machine keeps, whose firmware has its variables at `variables`. */
function kept(variables: string): Map<string, Buffer> {
  const document = machineOf([], {
    time: '2026-01-01T00:00:00.000Z',
    disks: [diskOf('vda', '/images/vda.qcow2'), diskOf(null, '/images/scratch.qcow2')],
    firmware: [
      {
        slot: 'pflash1',
        node: 'vars',
        drive: null,
        format: 'raw',
        readOnly: false,
        image: { format: 'raw', filename: variables, path: variables },
        file: 'qemu/pflash1.fd',
        problem: null,
      },
    ],
    tpms: [{ id: 'tpm0', chardev: 'c', type: 'emulator', commandLine: [], files: ['qemu/tpm0/tpm2-00.permall'], problem: null }],
  })
  return new Map([
    [MACHINE_DOCUMENT, Buffer.from(JSON.stringify(document))],
    ['qemu/pflash1.fd', Buffer.from('variables then')],
    ['qemu/tpm0/tpm2-00.permall', Buffer.from('tpm then')],
  ])
}

const recallOf = (files: Map<string, Buffer>) => async (path: string) => files.get(path)

test('a machine that is shut down keeps its files, with the variables that its firmware has now', async () => {
  const variables = join(temporaryFolder(), 'vars.fd')
  writeFileSync(variables, 'variables now')
  const files = kept(variables)
  const found = await recallMachine(recallOf(files))
  expect(found?.disks.map(({ store }) => store)).toEqual(['vda'])
  expect(new Map(found?.files.map(({ path, content }) => [path, Buffer.from(content).toString()]))).toEqual(
    new Map([
      [MACHINE_DOCUMENT, files.get(MACHINE_DOCUMENT)?.toString()],
      ['qemu/pflash1.fd', 'variables now'],
      ['qemu/tpm0/tpm2-00.permall', 'tpm then'],
    ]),
  )
  expect(found?.warnings).toEqual([expect.stringContaining("TPM 'tpm0' is that of 2026-01-01")])

  // Gone from where they were: the ones of then, and that is said.
  renameSync(variables, `${variables}.old`)
  const without = await recallMachine(recallOf(files))
  expect(without?.files.find(({ path }) => path === 'qemu/pflash1.fd')?.content.toString()).toBe('variables then')
  expect(without?.warnings).toContainEqual(expect.stringContaining('variables are those of 2026-01-01'))
})

test('a machine of which no point tells anything is not known, and one that can not be understood is told', async () => {
  expect(await recallMachine(async () => undefined)).toBeUndefined()
  const unknown = new Map([[MACHINE_DOCUMENT, Buffer.from('{"format":2}')]])
  await expect(recallMachine(recallOf(unknown))).rejects.toMatchObject({ code: 'tracker', hint: expect.stringContaining('images:') })
})
