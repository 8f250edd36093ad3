import { formatLsn, formatTableName, MoonlinkError, type Lsn } from '@moonlink/core'
import type { MirrorStatus } from '@moonlink/table-engine'

/**
 * After all other tables were waited for: a table that takes no changes, and that Iceberg does not have up to `lsn`, is told of rather than left
 * out. Throws `invalid`/`TABLE_PAUSED`. `unopened`: tables that could not be opened at all, and why.
 */
export function requireCommitted(
  lsn: Lsn,
  mirrors: readonly Pick<MirrorStatus, 'table' | 'state' | 'committedLsn' | 'reason'>[],
  unopened: ReadonlyMap<string, string>,
): void {
  for (const { table, state, committedLsn, reason } of mirrors) {
    if (state === 'streaming' || state === 'copying' || (committedLsn ?? 0n) >= lsn) continue
    const place = committedLsn === null ? 'not there yet' : `as of ${formatLsn(committedLsn)}`
    throw new MoonlinkError('invalid', 'TABLE_PAUSED', `${formatTableName(table)} is ${state}, its Iceberg table ${place}: ${reason ?? ''}`)
  }
  for (const [name, reason] of unopened) throw new MoonlinkError('invalid', 'TABLE_PAUSED', `${name} is failed: ${reason}`)
}
