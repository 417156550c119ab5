import { randomUUID } from 'node:crypto'
import { expect, it } from 'vitest'
import { withPlaces } from '../../src/programs/host-slots.js'
import { shippedModule, startChild } from '../child-process.js'

const patient = { signal: new AbortController().signal, onWaiting: () => undefined }

it('lets so many in at once as there are places, and all in the end', async () => {
  const key = randomUUID()
  let inside = 0
  let most = 0
  let waited = 0
  const work = async (): Promise<void> => {
    inside += 1
    most = Math.max(most, inside)
    await new Promise((resolve) => setTimeout(resolve, 30))
    inside -= 1
  }
  const places = [{ key, count: 2 }]
  await Promise.all(
    Array.from({ length: 6 }, () => withPlaces(places, { ...patient, onWaiting: () => void (waited += 1) }, work)),
  )
  expect(most).toBe(2)
  expect(waited).toBeGreaterThanOrEqual(2)
})

it('gives the places back when the work fails, when the wait is cancelled, and when the process is killed', async () => {
  const key = randomUUID()
  const places = [{ key, count: 1 }]
  await expect(withPlaces(places, patient, async () => Promise.reject(new Error('no')))).rejects.toThrow('no')
  const child = startChild(`
    import { withPlaces } from ${shippedModule('programs/host-slots.js')}
    const { signal } = new AbortController()
    await withPlaces([{ key: ${JSON.stringify(key)}, count: 1 }], { signal, onWaiting() {} }, async () => {
      console.log('inside')
      await new Promise((resolve) => setTimeout(resolve, 1e9))
    })
  `)
  expect(await child.line()).toBe('inside')
  const stop = new AbortController()
  const reason = new Error('cancelled')
  const waiting = withPlaces(places, { signal: stop.signal, onWaiting: () => stop.abort(reason) }, async () => 'in')
  await expect(waiting).rejects.toBe(reason)
  child.process.kill('SIGKILL')
  expect(await withPlaces(places, patient, async () => 'in')).toBe('in')
})
