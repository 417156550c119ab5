import type { MachineDocument } from '../document.js'
import type { StartPlan } from './rewrite.js'
import { FOLDER, RUN_FOLDER } from './rewriting.js'

/**
 * The script that starts the restored machine from the folder it stands in, wherever that is moved to. Quoted exactly:
 * whatever an argument holds, the shell hands it on as it is; nothing of the original gets out of a comment.
 */
export function startScript(
  document: MachineDocument,
  plan: StartPlan,
  point: { readonly point: number; readonly time: string },
): string {
  const { qemu, name, machineType } = document
  const ran = `QEMU ${qemu.version}${machineType === null ? '' : `, ${machineType}`}`
  return [
    '#!/bin/sh',
    ...comment(
      `Starts the machine ${name ?? 'without a name'} as it was at point #${point.point}, ${point.time}, from the files ` +
        'beside this script.',
    ),
    ...comment(
      `Made by refpoint from the command line that ran it (${ran}), of which a copy is in config/qemu/machine.json. ` +
        'It may hold secrets that stood there. Options given to this script are added.',
    ),
    '#',
    '# What is different:',
    ...(plan.changes.length === 0 ? ['#  - nothing'] : plan.changes.flatMap(item)),
    ...(plan.needs.length === 0 ? [] : ['# What it uses of this host as it is:', ...plan.needs.flatMap(item)]),
    '#',
    '# It has the identity (UUID, MAC addresses) of the original: be careful to let both run.',
    'set -eu',
    'umask 077',
    'folder=$(cd "$(dirname "$0")" && pwd -P)',
    "# Sockets and logs; a socket's path is at most 107 bytes long.",
    'run=${REFPOINT_RUN:-$folder/run}',
    "newline='",
    "'",
    'case $folder$run in',
    '  *[,\\"\\\\]* | *"$newline"*)',
    '    echo "QEMU can\'t be given this folder\'s path: move it to one without commas, quotes and backslashes" >&2',
    '    exit 2',
    '    ;;',
    'esac',
    'mkdir -p "$run"',
    `qemu=\${QEMU:-${quote(plan.program)}}`,
    'command -v "$qemu" > /dev/null || qemu=$(basename "$qemu")',
    ...plan.tpms.flatMap((tpm) => ['', `${[quote(tpm.program), ...tpm.arguments.map(quote)].join(' \\\n  ')}`]),
    '',
    `exec "$qemu" \\`,
    ...plan.options.map(({ name: option, value }) => {
      if (option === 'image') return `  ${quote(value ?? '')} \\`
      return `  -${option}${value === undefined ? '' : ` ${quote(value)}`} \\`
    }),
    '  "$@"',
    '',
  ].join('\n')
}

/** A word of the shell that is exactly this text, but for the places that the script knows. */
export function quote(text: string): string {
  const words = text.split(/(\0folder\0|\0run\0)/).flatMap((piece) => {
    if (piece === FOLDER) return ['"$folder"']
    if (piece === RUN_FOLDER) return ['"$run"']
    if (piece.includes('\0')) throw new RangeError('an argument with a NUL')
    if (piece === '') return []
    return [/^[\w@%+=:./-]+$/.test(piece) ? piece : `'${piece.replaceAll("'", "'\\''")}'`]
  })
  return words.length === 0 ? "''" : words.join('')
}

function item(text: string): string[] {
  return comment(text).map((line, index) => line.replace(/^# /, index === 0 ? '#  - ' : '#    '))
}

/** Lines of at most some 110 characters; what is not a printable character does not get into the script. */
function comment(text: string): string[] {
  // oxlint-disable-next-line no-control-regex
  const words = text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, '?').split(' ')
  const lines: string[] = []
  let line = '#'
  for (const word of words) {
    if (line.length > 1 && line.length + word.length > 110) {
      lines.push(line)
      line = '#'
    }
    line += ` ${word}`
  }
  return [...lines, line]
}
