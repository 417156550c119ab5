import { expect, it } from 'vitest'
import { RefpointError } from '../../src/model/errors.js'
import { createRunReporter, type RunNotification, type RunReporter } from '../../src/operations/runs/run-reporter.js'
import { metricsText } from '../../src/operations/runs/metrics-text.js'
import { memoryRepository } from '../../src/repository/memory/memory-repository.js'
import { readRunRecord, readRunRecords, runRecordName } from '../../src/repository/run-record.js'

function reporting() {
  const repository = memoryRepository()
  const told: RunNotification[] = []
  const problems: string[] = []
  let published = 0
  const reporter = (broken: { notify?: boolean } = {}): RunReporter =>
    createRunReporter(repository, 'refpoint test', {
      async notify(notification) {
        if (broken.notify === true) throw new Error('the pager is dead')
        told.push(notification)
      },
      async publish() {
        published += 1
      },
      onProblem: (message) => void problems.push(message),
      describeError: (error) => ({
        code: error instanceof RefpointError ? error.code : 'unexpected',
        message: error instanceof Error ? error.message : String(error),
        hint: null,
        cancelled: error instanceof RefpointError && error.code === 'cancelled',
      }),
    })
  return { repository, told, problems, reporter, published: () => published }
}

const fail = (code: ConstructorParameters<typeof RefpointError>[0], message: string) => async (): Promise<never> => {
  throw new RefpointError(code, message)
}

it('tells a failure each time, and a recovery once', async () => {
  const { repository, told, reporter } = reporting()
  const runs = reporter()
  await runs.run('backup', 'web01', async () => 'fine')
  await expect(runs.run('backup', 'web01', fail('io', 'it is full'))).rejects.toThrow('it is full')
  await expect(runs.run('backup', 'web01', fail('io', 'still full'))).rejects.toThrow('still full')
  const during = await readRunRecord(repository, 'web01', 'backup')
  expect(during).toMatchObject({ failures: 2, last: { result: 'failed', error: { code: 'io' } }, lastDone: { result: 'done' } })
  expect(await runs.run('backup', 'web01', async () => 42)).toBe(42)
  await runs.run('backup', 'web01', async () => 43)
  expect(told.map(({ event, message, failures }) => [event, message, failures])).toEqual([
    ['failure', 'it is full', 1],
    ['failure', 'still full', 2],
    ['recovery', 'it is done; before that it failed 2 times', 0],
  ])
  expect(await readRunRecord(repository, 'web01', 'backup')).toMatchObject({ failures: 0, last: { result: 'done' } })
})

it('tells a warning when it is new, not each night, and is not fooled by numbers in it', async () => {
  const { told, reporter } = reporting()
  const runs = reporter()
  const warning = (...messages: string[]) =>
    runs.run('verify', 'web01', async (notes) => messages.forEach((message) => notes.warn(message)))
  await warning('point #12 is torn')
  await warning('point #13 is torn')
  await warning('point #14 is torn', 'the clock went back')
  await warning()
  await warning('point #16 is torn')
  expect(told.map(({ event, message }) => [event, message])).toEqual([
    ['warning', 'point #12 is torn'],
    ['warning', 'the clock went back'],
    ['warning', 'point #16 is torn'],
  ])
})

it('takes a machine that is locked once for nothing, and tells it from the second time on', async () => {
  const { repository, told, reporter } = reporting()
  const runs = reporter()
  const locked = () => runs.run('prune', 'web01', fail('locked', 'held by another')).catch(() => undefined)
  await locked()
  expect(told).toEqual([])
  expect(runs.timesSkipped('web01')).toBe(1)
  await locked()
  expect(runs.timesSkipped('web01')).toBe(2)
  expect(await readRunRecord(repository, 'web01', 'prune')).toMatchObject({ skipped: 2, last: null, failures: 0 })
  await runs.run('prune', 'web01', async () => undefined)
  expect(told.map(({ event, message }) => [event, message])).toEqual([
    ['warning', 'held by another (2 times in a row)'],
    ['recovery', 'it is done; before that it found the machine locked 2 times'],
  ])
  expect(await readRunRecord(repository, 'web01', 'prune')).toMatchObject({ skipped: 0, skippedSince: null })
})

it('neither counts nor tells what a person did: a cancelled run, a wrong command line', async () => {
  const { repository, told, reporter } = reporting()
  const runs = reporter()
  await runs.run('backup', 'web01', fail('cancelled', 'by SIGINT')).catch(() => undefined)
  expect(await readRunRecord(repository, 'web01', 'backup')).toMatchObject({ failures: 0, last: { result: 'cancelled' } })
  await runs.run('backup', 'web02', fail('usage', 'no such machine')).catch(() => undefined)
  expect(await readRunRecord(repository, 'web02', 'backup')).toBeUndefined()
  await runs.failed('backup', new RefpointError('usage', 'no such machine'))
  expect(told).toEqual([])
})

it('tells a failure outside of any run once, and none that sums up others', async () => {
  const { told, reporter } = reporting()
  const lost = reporter()
  await lost.failed('backup', new RefpointError('no-repository', 'there is none'))
  expect(told).toMatchObject([{ event: 'failure', kind: 'backup', machine: null, message: 'there is none' }])
  const summed = reporter()
  await summed.run('backup', 'web01', fail('io', 'full')).catch(() => undefined)
  await summed.failed('backup', new RefpointError('machines-failed', '1 of 2 machines failed'))
  expect(told).toHaveLength(2)
})

it('tells a person what it could not tell or read, and leaves the run as it is', async () => {
  const { repository, problems, reporter, published } = reporting()
  const name = runRecordName('web01', 'backup')
  await repository.put(name, [Buffer.from('{"format":1')])
  expect((await readRunRecords(repository, 'web01')).problems).toEqual([`object ${name} is not JSON`])
  const runs = reporter({ notify: true })
  const warned = await runs.run('backup', 'web01', async (notes) => {
    notes.warn('look here')
    return 'the point'
  })
  expect(warned).toBe('the point')
  expect(problems).toEqual([
    `how the last backup of 'web01' went can't be read: object ${name} is not JSON`,
    'a notification could not be sent: the pager is dead',
  ])
  await runs.close()
  expect(published()).toBe(1)
  expect(await readRunRecord(repository, 'web01', 'backup')).toMatchObject({ last: { warnings: ['look here'] } })
})

it('writes metrics as Prometheus reads them: one head for each name, its rows together, labels escaped', async () => {
  const { repository, reporter } = reporting()
  const runs = reporter()
  for (const machine of ['web01', 'db01']) {
    await runs.run('backup', machine, async (notes) => notes.fact('stored_bytes', 4096))
  }
  await runs.run('prune', 'web01', fail('io', 'full')).catch(() => undefined)
  const records = (await Promise.all(['web01', 'db01'].map((name) => readRunRecords(repository, name)))).flatMap((found) => found.records)
  const [first, ...rest] = records
  if (first === undefined) throw new RangeError('there are records')
  const text = metricsText([{ ...first, machine: 'a"b\\c\nd' }, ...rest], { version: '1.0.0', room: { freeBytes: 5, sizeBytes: 9 } })
  expect(text.endsWith('\n')).toBe(true)
  const lines = text.trimEnd().split('\n')
  const seen = new Set<string>()
  let current = ''
  for (const line of lines) {
    const head = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line)
    if (head?.[1] === 'HELP') {
      current = head[2] ?? ''
      expect(seen.has(current), current).toBe(false)
      seen.add(current)
      continue
    }
    if (head !== null) {
      expect(line).toBe(`# TYPE ${current} gauge`)
      continue
    }
    expect(line).toMatch(/^[a-z_]+(\{[a-z]+="(\\.|[^"\\])*"(,[a-z]+="(\\.|[^"\\])*")*\})? -?\d+(\.\d+)?(e[+-]\d+)?$/)
    expect(line.startsWith(`${current}{`) || line.startsWith(`${current} `)).toBe(true)
  }
  expect(lines).toContain('refpoint_repository_free_bytes 5')
  expect(lines).toContain('refpoint_run_success{machine="web01",kind="prune"} 0')
  expect(lines).toContain('refpoint_run_success_timestamp_seconds{machine="web01",kind="prune"} 0')
  expect(lines).toContain('refpoint_backup_stored_bytes{machine="db01"} 4096')
  expect(text).toContain('machine="a\\"b\\\\c\\nd"')
})
