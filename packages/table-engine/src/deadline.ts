import { MoonlinkError, type Clock } from '@moonlink/core'

/** What the work gives, or `retry`/`TIMED_OUT` with `message` after `timeoutMs`; the work goes on then. */
export async function withDeadline<T>(clock: Clock, timeoutMs: number, work: Promise<T>, message: () => string): Promise<T> {
  const abort = new AbortController()
  try {
    return await Promise.race([
      work,
      clock.sleep(Math.max(0, timeoutMs), abort.signal).then(() => {
        throw new MoonlinkError('retry', 'TIMED_OUT', message())
      }),
    ])
  } finally {
    work.catch(() => undefined)
    abort.abort(new Error('done'))
  }
}
