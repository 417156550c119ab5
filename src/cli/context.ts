import { resolve } from 'node:path'
import type { Config } from '../config/config.js'
import { RefpointError } from '../model/errors.js'
import type { WriteEnvironment } from '../operations/environment.js'
import type { PruneRepository } from '../repository/repository.js'
import type { Output } from './output.js'
import type { Services } from './services.js'

/** Options that every command takes. */
export interface GlobalOptions {
  readonly config?: string
  readonly repository?: string
  readonly json?: boolean
}

/** What a command's action works with. */
export interface Context {
  readonly output: Output
  readonly services: () => Promise<Services>
  readonly signal: AbortSignal
  readonly cwd: string
  readonly env: NodeJS.ProcessEnv
  /** The command line, for whoever finds a machine locked. */
  readonly command: string
}

/** The configuration that was named or found. */
export async function readConfig(context: Context, options: GlobalOptions): Promise<Config> {
  const { loadConfig } = await import('../config/load-config.js')
  const { cwd, env } = context
  return await loadConfig({ cwd, env, ...(options.config === undefined ? {} : { path: options.config }) })
}

const withoutConfig = { workers: 'auto', memoryBytes: 64 * 1024 * 1024 } as const

/**
 * The repository that `--repository` names, else the configuration's. On the bad day there may be no configuration:
 * then `--repository` is enough to list, verify and restore.
 */
export async function findRepository(
  context: Context,
  options: GlobalOptions,
): Promise<{
  repository: PruneRepository
  settings: Pick<Config, 'workers' | 'memoryBytes'>
  config: Config | undefined
}> {
  const services = await context.services()
  if (options.repository !== undefined) {
    const repository = await services.buildRepository({ path: resolve(context.cwd, options.repository) })
    return { repository, settings: withoutConfig, config: undefined }
  }
  try {
    const config = await readConfig(context, options)
    return { repository: await services.buildRepository(config.repository), settings: config, config }
  } catch (error) {
    if (!(error instanceof RefpointError) || error.code !== 'config' || options.config !== undefined) throw error
    throw new RefpointError(error.code, error.message, {
      hint: `${error.hint ?? ''} A repository can also be named directly: --repository <folder>.`.trim(),
      fields: error.fields,
      cause: error,
    })
  }
}

/** Runs `action` with an environment whose workers are gone afterwards. */
export async function withEnvironment<Result>(
  context: Context,
  options: GlobalOptions,
  action: (environment: WriteEnvironment) => Promise<Result>,
): Promise<Result> {
  const { repository, settings } = await findRepository(context, options)
  const services = await context.services()
  const { workers, memoryBytes } = settings
  const environment = await services.buildEnvironment(repository, { workers, memoryBytes, command: context.command })
  try {
    return await action(environment)
  } finally {
    await environment.pool[Symbol.asyncDispose]()
  }
}
