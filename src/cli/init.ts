import { resolve } from 'node:path'
import { initRepository } from '../repository/init.js'
import { type Context, type GlobalOptions, readConfig } from './context.js'

/** `refpoint init [dir]` */
export async function init(context: Context, dir: string | undefined, options: GlobalOptions): Promise<void> {
  const { output, cwd } = context
  const services = await context.services()
  const named = dir ?? options.repository
  const where = named === undefined ? (await readConfig(context, options)).repository : { path: resolve(cwd, named) }
  const repository = await services.buildRepository(where, { create: true })
  const { record, created } = await initRepository(repository)
  output.line(
    created
      ? `created the repository ${repository.description} (${record.id})`
      : `${repository.description} is a repository already (${record.id}); nothing was changed`,
  )
  output.result({ repository: repository.description, id: record.id, created })
}
