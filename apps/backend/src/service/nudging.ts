import type { Clock } from '@moonlink/core'
import type { ReadLeaseSource } from '@moonlink/union-read'
import type { SourceHandle } from './parts.ts'

const firstPauseMs = 30
const pauseMs = 500

/** While `work` waits for the stream, asks the source now and then where it is: an idle one says so only when asked. */
export async function nudging<T>(source: Pick<SourceHandle, 'currentLsn'>, clock: Clock, work: Promise<T>): Promise<T> {
  const done = new AbortController()
  const nudge = async () => {
    for (let nextMs = firstPauseMs; !done.signal.aborted; nextMs = pauseMs) {
      await clock.sleep(nextMs, done.signal).catch(() => undefined)
      if (!done.signal.aborted) await source.currentLsn().catch(() => undefined)
    }
  }
  void nudge()
  try {
    return await work
  } finally {
    done.abort(new Error('done'))
  }
}

/** The same leases; for one that waits for its LSN the source is asked where it is. What is read once it is there needs nothing of the source. */
export function nudgedLeases(leases: ReadLeaseSource, source: Pick<SourceHandle, 'currentLsn'>, clock: Clock): ReadLeaseSource {
  return {
    readableTables: () => leases.readableTables(),
    acquire: (request) => nudging(source, clock, leases.acquire(request)),
  }
}
