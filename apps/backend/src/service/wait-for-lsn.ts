import { formatTableName, MoonlinkError, type Lsn } from '@moonlink/core'
import type { MirrorStatus } from '@moonlink/table-engine'
import type { BackendParts } from './backend-parts.ts'
import type { MirrorSet } from './mirror-set.ts'
import { nudging } from './nudging.ts'
import type { WaitRequest } from './operations.ts'
import { requireCommitted } from './require-committed.ts'

export interface WaitParts extends Pick<BackendParts, 'clock' | 'engine' | 'source'> {
  readonly mirrors: Pick<MirrorSet, 'locked' | 'unopened' | 'waitCopied'>
  /** Whether a paused table is soon read again by itself. */
  readonly willTakeOn: (mirror: MirrorStatus) => boolean
}

const pollMs = 100

/** Waits until every table has what is asked for, copies and changes of schema on the way among it. Throws `retry`/`TIMED_OUT`, `invalid`/`TABLE_PAUSED`. */
export async function waitForLsn(request: WaitRequest, parts: WaitParts): Promise<Lsn> {
  const { clock, engine, mirrors, source, willTakeOn } = parts
  const deadlineMs = clock.nowMs() + request.timeoutMs
  const lsn = request.lsn ?? (await source.currentLsn())
  const leftMs = () => Math.max(0, deadlineMs - clock.nowMs())
  for (;;) {
    await mirrors.locked.waitUnlocked(deadlineMs)
    await mirrors.waitCopied(deadlineMs)
    await nudging(source, clock, request.iceberg ? engine.waitCommitted(lsn, leftMs()) : engine.waitApplied(lsn, leftMs()))
    // A change of schema may have been met on the way.
    const changed = engine.status().find((mirror) => mirror.state === 'copying' || willTakeOn(mirror))
    if (changed === undefined) break
    if (leftMs() === 0)
      throw new MoonlinkError('retry', 'TIMED_OUT', `${formatTableName(changed.table)} is still read again: ${changed.reason ?? ''}`)
    await clock.sleep(pollMs)
  }
  if (request.iceberg) requireCommitted(lsn, engine.status(), mirrors.unopened.reasons)
  return lsn
}
