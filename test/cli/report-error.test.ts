import { describe, expect, test } from 'vitest'
import { exitStatus, reportError } from '../../src/cli/report-error.js'
import { type ErrorCode, RefpointError } from '../../src/model/errors.js'
import { capture } from './captured.js'

function system(code: string): Error {
  return Object.assign(new Error(`${code}: something`), { code, path: '/srv/backup', errno: -1 })
}

describe('an error', () => {
  const statuses: readonly (readonly [ErrorCode, number])[] = [
    ['usage', 2], ['config', 2], ['machines-failed', 3], ['no-repository', 10], ['locked', 11], ['wrong-key', 12],
    ['damaged', 13], ['tracker', 14], ['io', 1], ['commit-unknown', 1], ['cancelled', 130],
  ]
  test.each(statuses)('of code %s ends with %d', (code, status) => {
    expect(exitStatus(new RefpointError(code, 'message'))).toBe(status)
  })

  test('says what happened and what to do', () => {
    const { output, stdout, stderr } = capture()
    const error = new RefpointError('locked', 'machine web01 is being backed up', { hint: 'Wait for it.' })
    expect(reportError(error, output, {})).toBe(11)
    expect([stdout(), stderr()]).toEqual(['', 'refpoint: machine web01 is being backed up\nWait for it.\n'])
  })

  test('is one event for programs, with its fields', () => {
    const { output, stdout, stderr } = capture({ json: true })
    const details = { hint: 'Wait.', fields: { store: 'root' }, cause: system('EBUSY') }
    const error = new RefpointError('tracker', 'busy', details)
    reportError(error, output, {})
    expect(stdout()).toBe('')
    expect(JSON.parse(stderr())).toEqual({
      type: 'error', code: 'tracker', message: 'busy', hint: 'Wait.', fields: { store: 'root' }, exitStatus: 14,
    })
  })

  test.each([
    ['ENOSPC', '/srv/backup: no space left on the device (ENOSPC)'],
    ['EACCES', '/srv/backup: permission denied (EACCES)'],
    ['EROFS', '/srv/backup: the file system is read-only (EROFS)'],
  ])('of the system, %s, is told plainly', (code, message) => {
    const { output, stderr } = capture()
    expect(reportError(system(code), output, {})).toBe(1)
    expect(stderr()).toContain(`refpoint: ${message}\n`)
    expect(stderr()).not.toContain('bug')
  })

  test('that nobody expected is one line and where to go, with the stack only on demand', () => {
    const error = new TypeError('x is not a function\nand more')
    const quiet = capture()
    expect(reportError(error, quiet.output, {})).toBe(1)
    expect(quiet.stderr().split('\n')[0]).toBe('refpoint: unexpected TypeError: x is not a function')
    expect(quiet.stderr()).toContain('This is a bug')
    expect(quiet.stderr()).not.toContain('    at ')
    const loud = capture()
    reportError(error, loud.output, { REFPOINT_DEBUG: '1' })
    expect(loud.stderr()).toContain('    at ')
  })

  test('shows its cause on demand', () => {
    const { output, stderr } = capture()
    reportError(new RefpointError('io', 'failed', { cause: system('EIO') }), output, { REFPOINT_DEBUG: '1' })
    expect(stderr()).toContain('EIO: something')
  })

  test('that is an abort is a cancellation, and anything thrown is survived', () => {
    expect(exitStatus(AbortSignal.abort().reason)).toBe(130)
    expect(exitStatus('a string')).toBe(1)
    expect(exitStatus(undefined)).toBe(1)
  })

  test('of the command line was printed by commander: only its status counts', async () => {
    const { Command } = await import('commander')
    const thrown = (args: string[]): unknown => {
      const command = new Command('refpoint').exitOverride().configureOutput({ writeErr() {}, writeOut() {} })
      try {
        command.parse(args, { from: 'user' })
      } catch (error) {
        return error
      }
      throw new Error('nothing was thrown')
    }
    const { output, stderr } = capture()
    expect(reportError(thrown(['--nonsense']), output, {})).toBe(2)
    expect(reportError(thrown(['--help']), output, {})).toBe(0)
    expect(stderr()).toBe('')
  })
})
