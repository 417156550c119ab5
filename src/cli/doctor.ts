import { RefpointError } from '../model/errors.js'
import type { Finding } from '../operations/doctor/examine-machine.js'
import { type Context, type GlobalOptions, readConfig } from './context.js'

export interface DoctorFlags extends GlobalOptions {
  readonly fix?: boolean
}

const labels: Readonly<Record<Finding['level'], string>> = { good: 'ok', note: 'note', problem: 'PROBLEM' }

/** `refpoint doctor [machine] [--fix]`: what a backup of a machine would find. Problems make it fail. */
export async function doctor(context: Context, machine: string | undefined, flags: DoctorFlags): Promise<void> {
  const { output, signal, command } = context
  const config = await readConfig(context, flags)
  const names = config.machines.map(({ name }) => name)
  const [only] = config.machines
  const chosen =
    machine === undefined && names.length === 1 ? only : config.machines.find(({ name }) => name === machine)
  if (chosen === undefined) {
    const what =
      machine === undefined ? 'no machine was named' : `there is no machine '${machine}' in the configuration`
    throw new RefpointError('usage', what, { hint: `${config.file} has: ${names.join(', ')}.` })
  }
  const services = await context.services()
  const repository = await services.buildRepository(
    flags.repository === undefined ? config.repository : { path: flags.repository },
  )
  const { examineMachine, unwell } = await import('../operations/doctor/examine-machine.js')
  await using examiner = await services.buildDoctor(chosen)
  const codec = await services.loadCodec()
  const { name } = chosen
  const request = { name, doctor: examiner, fix: flags.fix === true, command, signal, codec }
  const examination = await examineMachine(repository, request)
  output.line(`${name} (${chosen.tracker}):`)
  for (const { level, message, hint } of examination.findings) {
    output.line(`  ${labels[level].padEnd(7)}  ${message}`)
    if (hint !== undefined) output.line(`           ${hint}`)
  }
  for (const removed of examination.fixed) output.line(`  ${'removed'}  ${removed}`)
  const problem = unwell(name, examination)
  if (problem !== undefined) throw problem
  output.result({ machine: name, tracker: chosen.tracker, ...examination })
}
