import { access } from 'node:fs/promises'
import { resolve } from 'node:path'
import { RefpointError } from '../model/errors.js'

export interface ConfigLocation {
  /** `--config`; nothing else is looked at when it is given. */
  readonly path?: string | undefined
  readonly cwd: string
  readonly env: Readonly<Record<string, string | undefined>>
}

/**
 * The absolute path of the configuration: `--config`, else `./refpoint.yaml`, else `$REFPOINT_CONFIG`, else
 * `/etc/refpoint/refpoint.yaml`. A file named by `--config` or by the variable must be there.
 * @throws RefpointError `config` when there is none, saying where it was looked for.
 */
export async function findConfig({ path, cwd, env }: ConfigLocation): Promise<string> {
  if (path !== undefined) return named(resolve(cwd, path), '--config')
  const here = resolve(cwd, 'refpoint.yaml')
  if (await exists(here)) return here
  const variable = env['REFPOINT_CONFIG']
  if (variable !== undefined && variable !== '') return named(resolve(cwd, variable), '$REFPOINT_CONFIG')
  const system = '/etc/refpoint/refpoint.yaml'
  if (await exists(system)) return system
  throw new RefpointError('config', `no configuration: neither ${here} nor ${system} is there`, {
    hint: 'Write one (a sample is in samples/refpoint.yaml), or name it with --config or $REFPOINT_CONFIG.',
    fields: { looked: [here, system] },
  })
}

async function named(file: string, by: string): Promise<string> {
  if (await exists(file)) return file
  throw new RefpointError('config', `the configuration ${file}, named by ${by}, is not there`, { fields: { file } })
}

/** Only a missing file is passed over: one that can't be read must be told when it is opened. */
async function exists(file: string): Promise<boolean> {
  try {
    await access(file)
    return true
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    return code !== 'ENOENT' && code !== 'ENOTDIR'
  }
}
