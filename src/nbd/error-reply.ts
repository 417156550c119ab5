import { type NbdErrorName, nbdError } from './protocol.js'

/** What a client is told of a failed request. */
export interface ErrorReply {
  readonly error: number
  readonly message: string
}

const bySystemCode: Readonly<Record<string, NbdErrorName>> = {
  EPERM: 'EPERM',
  EACCES: 'EPERM',
  EROFS: 'EPERM',
  ENOSPC: 'ENOSPC',
  EDQUOT: 'ENOSPC',
  EFBIG: 'ENOSPC',
  ENOMEM: 'ENOMEM',
  ENOTSUP: 'ENOTSUP',
  ESHUTDOWN: 'ESHUTDOWN',
}

/** Finds the system's error code in an error or its causes; what is none of the protocol's is EIO. */
export function errorReply(error: unknown): ErrorReply {
  const message = error instanceof Error ? error.message : String(error)
  let cause = error
  for (let depth = 0; depth < 8 && cause instanceof Error; depth++, cause = cause.cause) {
    const name = bySystemCode[String((cause as NodeJS.ErrnoException).code)]
    if (name !== undefined) return { error: nbdError[name], message }
  }
  return { error: nbdError.EIO, message }
}
