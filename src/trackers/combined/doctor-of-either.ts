import type { Doctor } from '../doctor.js'

export interface EitherDoctorOptions {
  readonly live: Doctor
  /** Whether an error of `live` says that the machine does not run. */
  readonly isOff: (error: unknown) => boolean
  readonly offline: Doctor
}

/** Looks at a machine that is backed up whether it runs or not. */
export function doctorOfEither({ live, isOff, offline }: EitherDoctorOptions): Doctor {
  return {
    async examine(options) {
      try {
        return await live.examine(options)
      } catch (error) {
        if (!isOff(error)) throw error
        const message = 'the machine does not run: its images are looked at'
        return [{ level: 'note', topic: 'version', store: null, message }, ...(await offline.examine(options))]
      }
    },
    async fix(options) {
      try {
        return await live.fix(options)
      } catch (error) {
        if (!isOff(error)) throw error
        return await offline.fix(options)
      }
    },
    async [Symbol.asyncDispose]() {
      await live[Symbol.asyncDispose]()
      await offline[Symbol.asyncDispose]()
    },
  }
}
