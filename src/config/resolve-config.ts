import { dirname, resolve } from 'node:path'
import { keepRuleNames } from '../model/retention.js'
import { spreadExpression } from '../schedule/spread.js'
import type { Config, DiskImageConfig, KeepConfig, MachineConfig } from './config.js'
import type { ConfigFile, WrittenImage } from './schema.js'

/** Fills in the defaults, and makes paths absolute: relative ones are relative to the folder of `file`. */
export function resolveConfig(written: ConfigFile, file: string): Config {
  const folder = dirname(file)
  const absolute = (path: string): string => resolve(folder, path)
  const defaults = written.defaults ?? {}
  return {
    file,
    repository: { path: absolute(written.repository.path) },
    otherRepositories: mapValues(written.repositories ?? {}, ({ path }) => ({ path: absolute(path) })),
    concurrentMachines: defaults.concurrency?.machines ?? 1,
    workers: defaults.compression?.workers ?? 'auto',
    memoryBytes: defaults.memory ?? 64 * 2 ** 20,
    notifiers: (written.notify ?? []).map(({ on, run, timeout }) => ({ on, command: run, timeoutMs: timeout ?? 30_000 })),
    metricsFile: written.metrics === undefined ? undefined : absolute(written.metrics.textfile),
    zone: written.zone,
    verify: {
      schedule: written.verify?.schedule,
      budgetMs: written.verify?.budget,
      withinMs: written.verify?.within,
    },
    prune: { schedule: written.prune?.schedule },
    limits: {
      host: written.limits?.host,
      repository: written.limits?.repository,
      device: written.limits?.device,
      readBytesPerSecond: written.limits?.read,
      writeBytesPerSecond: written.limits?.write,
      nice: written.limits?.nice,
      ionice: written.limits?.ionice,
    },
    machines: Object.entries(written.machines).map(([name, machine]): MachineConfig => {
      const settings = {
        name,
        concurrentStores: machine.concurrency?.stores ?? defaults.concurrency?.stores ?? 2,
        compressionLevel: machine.compression?.level ?? defaults.compression?.level ?? 1,
        audit: {
          bytes: machine.audit?.bytes ?? defaults.audit?.bytes ?? 256 * 2 ** 20,
          milliseconds: auditMs(machine.audit) ?? auditMs(defaults.audit) ?? 5000,
        },
        keep: resolveKeep(machine.keep ?? defaults.keep, written.zone),
        fullEveryMs: (machine.full === undefined ? defaults.full : machine.full) ?? undefined,
        files: mapValues(machine.files ?? {}, absolute),
        schedule: machine.schedule ?? inherited(defaults, name),
        hooks: {
          before: machine.hooks?.before ?? defaults.hooks?.before,
          after: machine.hooks?.after ?? defaults.hooks?.after,
          timeoutMs: machine.hooks?.timeout ?? defaults.hooks?.timeout ?? 10 * 60_000,
        },
      }
      if (machine.tracker === 'disk') {
        return { ...settings, tracker: 'disk', stores: mapValues(machine.stores, absolute) }
      }
      const resolved = (images: Readonly<Record<string, WrittenImage>>) =>
        mapValues(images, (image) => resolveImage(image, absolute))
      if (machine.tracker === 'qemu') {
        const { agent, fleecing, images } = machine
        return {
          ...settings,
          tracker: 'qemu',
          qmp: absolute(machine.qmp),
          agent: agent === undefined ? undefined : absolute(agent),
          exclude: machine.disks?.exclude ?? [],
          fleecing: {
            folder: fleecing?.folder === undefined ? undefined : absolute(fleecing.folder),
            limitBytes: fleecing?.limit,
          },
          granularityBytes: machine.granularity,
          images: images === undefined || images === 'auto' ? images : resolved(images),
        }
      }
      if (machine.tracker === 'qcow2') {
        return { ...settings, tracker: 'qcow2', stores: resolved(machine.stores) }
      }
      return {
        ...settings,
        tracker: 'image',
        stores: mapValues(machine.stores, ({ path, format }) =>
          format === undefined ? { path: absolute(path) } : { path: absolute(path), format },
        ),
        allowTorn: machine.allow?.includes('torn') ?? false,
      }
    }),
  }
}

/** A schedule that machines share is spread; one that a machine has of its own is meant as it stands. */
function inherited({ schedule, spread }: NonNullable<ConfigFile['defaults']>, machine: string): string | undefined {
  if (schedule === undefined) return undefined
  return spreadExpression(schedule, machine, Math.floor((spread ?? 15 * 60_000) / 60_000))
}

type Audit = NonNullable<ConfigFile['defaults']>['audit']

function auditMs(audit: Audit): number | undefined {
  return audit?.seconds === undefined ? audit?.time : audit.seconds * 1000
}

function resolveImage({ path, format, backing }: WrittenImage, absolute: (path: string) => string): DiskImageConfig {
  return {
    path: absolute(path),
    format,
    ...(backing === undefined ? {} : { backing: resolveImage(backing, absolute) }),
  }
}

/** A machine's own rules take the place of the defaults as a whole: what is not there keeps nothing. */
function resolveKeep(
  written: NonNullable<ConfigFile['defaults']>['keep'],
  zone: string | undefined,
): KeepConfig | undefined {
  if (written === undefined) return undefined
  const rules = Object.fromEntries(keepRuleNames.map((rule) => [rule, written[rule] ?? 0]))
  return { rules, zone: written.zone ?? zone }
}

function mapValues<From, To>(record: Readonly<Record<string, From>>, to: (value: From) => To): Record<string, To> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, to(value)]))
}
