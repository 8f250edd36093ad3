import { isMoonlinkError, MoonlinkError, type Lease } from '@moonlink/core'

/** What a read meets where a file that it needs is not there. */
const gone: ReadonlySet<string> = new Set(['OBJECT_NOT_FOUND', 'SQL_IO'])

/**
 * What is answered to a read that met `error`. Files go once their table needs them no more: where another backend has taken over and goes on, a read of this one that does not know yet can so
 * find none. To be asked there again.
 */
export async function errorOfRead(error: unknown, lease: Pick<Lease, 'check'> | null): Promise<unknown> {
  if (lease === null || !isMoonlinkError(error)) return error
  if (error.kind === 'fenced') return askedThere(error)
  if (!gone.has(error.code)) return error
  try {
    await lease.check()
    return error
  } catch (lost) {
    if (isMoonlinkError(lost, 'fenced')) return askedThere(lost)
    const message = `a file of the table is gone, and it can't be told whether another backend has taken over meanwhile: ${error.message} Repeat the read.`
    return new MoonlinkError('retry', 'LEASE_UNCERTAIN', message, { context: error.context, cause: error })
  }
}

function askedThere({ code, context, message }: MoonlinkError): MoonlinkError {
  return new MoonlinkError('retry', code, `${message} Repeat the read: the backend whose /ready is 200 answers it.`, { context })
}
