/* The composition root of hooks: they are programs of the user's. Their environment is documented in README.md. */
import type { Hooks } from './config/config.js'
import { RefpointError } from './model/errors.js'
import type { HookOutcome, RunHooks } from './operations/backup/hooks.js'
import { runProgram } from './programs/run-program.js'

export interface HookSettings {
  readonly machine: string
  readonly hooks: Hooks
  readonly configFile: string
  readonly repository: string
  /** Tells what a hook printed. */
  readonly onOutput: (text: string) => void
}

/** Undefined where the machine has none. */
export function buildHooks(settings: HookSettings): RunHooks | undefined {
  const { before, after } = settings.hooks
  if (before === undefined && after === undefined) return undefined
  return {
    async before(signal) {
      if (before === undefined) return
      await run(settings, 'before', before, {}, signal)
    },
    async after(outcome) {
      if (after === undefined) return
      await run(settings, 'after', after, afterEnvironment(outcome), undefined)
    },
  }
}

function afterEnvironment({ result, point, error }: HookOutcome): Record<string, string> {
  return {
    REFPOINT_RESULT: result,
    REFPOINT_POINT: point === null ? '' : String(point),
    REFPOINT_ERROR: error === undefined ? '' : error instanceof Error ? error.message : String(error),
    REFPOINT_ERROR_CODE: error === undefined ? '' : error instanceof RefpointError ? error.code : 'unexpected',
  }
}

async function run(
  { machine, hooks, configFile, repository, onOutput }: HookSettings,
  name: 'before' | 'after',
  command: readonly string[],
  env: Readonly<Record<string, string>>,
  signal: AbortSignal | undefined,
): Promise<void> {
  signal?.throwIfAborted()
  const { ok, how, output } = await runProgram({
    command,
    env: {
      REFPOINT_HOOK: name,
      REFPOINT_MACHINE: machine,
      REFPOINT_CONFIG: configFile,
      REFPOINT_REPOSITORY: repository,
      ...env,
    },
    stdin: '',
    timeoutMs: hooks.timeoutMs,
    ...(signal === undefined ? {} : { signal }),
  })
  signal?.throwIfAborted()
  if (output !== '') onOutput(`hook '${name}': ${output}`)
  if (ok) return
  throw new RefpointError('hook', `the hook '${name}' of machine '${machine}' ${how}: ${command.join(' ')}`, {
    hint: name === 'before' ? 'No point was taken. Correct the hook, or take it out of the configuration.' : 'Correct the hook, and look whether what it should have undone is undone.',
    fields: { machine, hook: name, command, output },
  })
}
