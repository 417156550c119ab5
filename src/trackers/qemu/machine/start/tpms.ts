import { dirname } from 'node:path'
import type { MachineDocument } from '../document.js'
import { FOLDER, type Rewriting, RUN_FOLDER } from './rewriting.js'

/** A TPM emulator that must listen before the machine starts. */
export interface StartTpm {
  readonly id: string
  readonly chardev: string
  readonly socket: string
  /** Of swtpm, with the folder of its state. */
  readonly program: string
  readonly arguments: readonly string[]
}

/** Options of swtpm that say what kind of TPM it is; all others say where it was. */
const kept = /^--(tpm2|locality|flags|seccomp|profile)$/

/** TPMs whose state is in the point. One that passes the host's own on goes; one whose state is missing is refused. */
export function planTpms(document: MachineDocument, rewriting: Rewriting): StartTpm[] {
  return document.tpms.flatMap((tpm) => {
    if (tpm.type === 'passthrough') {
      rewriting.changed(`without TPM '${tpm.id}', which was the host's own`)
      return []
    }
    if (tpm.problem !== null || tpm.chardev === null || tpm.files[0] === undefined) {
      rewriting.refuse(`the state of TPM '${tpm.id}' is not in the point: ${tpm.problem ?? 'it had none'}`)
      return []
    }
    const folder = `${FOLDER}/config/${dirname(tpm.files[0])}`
    const socket = rewriting.runPath(`swtpm-${tpm.id}.sock`)
    rewriting.changed(`TPM '${tpm.id}' is an swtpm of its own, with the state in config/${dirname(tpm.files[0])}`)
    const [program = 'swtpm', , ...args] = tpm.commandLine
    if (args.some((argument) => /^--(key|migration-key)(=|$)/.test(argument))) {
      rewriting.refuse(`the state of TPM '${tpm.id}' is encrypted with a key that is not in the point`)
    }
    return [
      {
        id: tpm.id,
        chardev: tpm.chardev,
        socket,
        program,
        arguments: [
          'socket',
          ...keptArguments(args),
          '--tpmstate',
          `dir=${folder}`,
          '--ctrl',
          `type=unixio,path=${socket}`,
          '--pid',
          `file=${RUN_FOLDER}/swtpm-${tpm.id}.pid`,
          '--terminate',
          '--daemon',
        ],
      },
    ]
  })
}

function keptArguments(args: readonly string[]): string[] {
  const found: string[] = []
  for (const [index, argument] of args.entries()) {
    if (!kept.test(argument.split('=')[0] ?? '')) continue
    found.push(argument)
    const next = args[index + 1]
    if (!argument.includes('=') && argument !== '--tpm2' && next !== undefined && !next.startsWith('--'))
      found.push(next)
  }
  return found
}
