import { isMoonlinkError, type Lease } from '@moonlink/core'

/** What ends a start that met `error`: where another backend has taken over meanwhile that alone, since its tables and files come and go as they please. */
export async function errorOfStart(error: unknown, lease: Pick<Lease, 'check'> | null): Promise<unknown> {
  try {
    await lease?.check()
    return error
  } catch (lost) {
    return isMoonlinkError(lost, 'fenced') ? lost : error
  }
}
