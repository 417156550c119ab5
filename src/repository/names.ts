import { RefpointError } from '../model/errors.js'

const segment = /^[A-Za-z0-9][A-Za-z0-9._-]*$/
const maxNameLength = 1024

/** Whether a segment may stand in an object's name; nothing that starts with a dot, so no way up and no temporary. */
export function isSegment(text: string): boolean {
  return segment.test(text)
}

/** @throws RefpointError `usage` unless it is a legal object name: no name can lead out of the repository. */
export function checkName(name: string): void {
  if (name.length <= maxNameLength && name.split('/').every(isSegment)) return
  throw new RefpointError('usage', `not a legal object name: ${JSON.stringify(name.slice(0, 200))}`, {
    hint: 'Use letters, digits, ".", "_" and "-", each part beginning with a letter or digit, joined by "/".',
    fields: { name },
  })
}

/** Like `checkName`, for a folder; '' is the whole repository. */
export function checkPrefix(prefix: string): void {
  if (prefix !== '') checkName(prefix)
}
