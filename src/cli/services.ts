import type { Config, Hooks, Limits, MachineConfig } from '../config/config.js'
import type { BackupMachine } from '../operations/backup/backup.js'
import type { RunHooks } from '../operations/backup/hooks.js'
import type { WriteEnvironment } from '../operations/environment.js'
import type { Doctor, ExamineRequest } from '../operations/doctor/examine-machine.js'
import type { RunReporter, RunSinks } from '../operations/runs/run-reporter.js'
import type { PruneRepository } from '../repository/repository.js'

/** What the commands get from the composition root: they use ports and construct none. */
export interface Services {
  readonly version: string
  buildRepository(where: { readonly path: string }, options?: { readonly create?: boolean }): Promise<PruneRepository>
  buildEnvironment(
    repository: PruneRepository,
    settings: { readonly workers: Config['workers']; readonly memoryBytes: number; readonly command: string; readonly limits?: Limits | undefined },
  ): Promise<WriteEnvironment>
  buildRunReporter(
    repository: PruneRepository,
    settings: {
      readonly config: Pick<Config, 'notifiers' | 'metricsFile' | 'machines'> | undefined
      readonly command: string
      readonly onProblem: RunSinks['onProblem']
      readonly describeError: RunSinks['describeError']
    },
  ): Promise<RunReporter>
  /** The repository, written to not faster than the limits say. */
  limitWrites(repository: PruneRepository, limits: Limits): Promise<PruneRepository>
  /** Lets others on this host go first; returns what of it could not be done. */
  lowerPriority(limits: Limits): Promise<readonly string[]>
  /** Runs a machine's backup when host, repository and devices have a place for it. */
  withinLimits<Result>(
    what: { readonly limits: Limits; readonly machine: MachineConfig; readonly repository: string },
    waiting: { readonly signal: AbortSignal; readonly onWaiting: (key: string) => void },
    body: () => Promise<Result>,
  ): Promise<Result>
  /** Undefined where the machine has no hooks. */
  buildHooks(settings: {
    readonly machine: string
    readonly hooks: Hooks
    readonly configFile: string
    readonly repository: string
    readonly onOutput: (text: string) => void
  }): Promise<RunHooks | undefined>
  buildDoctor(machine: MachineConfig): Promise<Doctor>
  loadCodec(): Promise<ExamineRequest['codec']>
  buildMachine(machine: MachineConfig): Promise<BackupMachine>
}
