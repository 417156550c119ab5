import type { Config, Hooks, MachineConfig } from '../config/config.js'
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
    settings: { readonly workers: Config['workers']; readonly memoryBytes: number; readonly command: string },
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
