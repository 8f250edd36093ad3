import type { Socket } from 'node:net'
import type pg from 'pg'

/** How often is looked within the patience: time that we stood still ourselves is none that the server was silent for. */
export const LOOKS = 8

/**
 * Runs statements on a connection, and breaks it where the server sends nothing for `patienceMs` (0: however long) meanwhile: one that is gone without a word, or
 * a network that swallows what is sent, would be waited for until TCP gives up, a quarter of an hour later.
 */
export async function unlessSilent<T>(client: pg.Client, patienceMs: number, run: () => Promise<T>): Promise<T> {
  if (patienceMs === 0) return run()
  const stream = client.connection.stream as Socket
  let heardBytes = stream.bytesRead
  let silentLooks = 0
  const timer = setInterval(() => {
    silentLooks = stream.bytesRead === heardBytes ? silentLooks + 1 : 0
    heardBytes = stream.bytesRead
    if (silentLooks >= LOOKS) stream.destroy(new Error(`the server has not answered for ${patienceMs / 1000} s`))
  }, patienceMs / LOOKS)
  try {
    return await run()
  } finally {
    clearInterval(timer)
  }
}
