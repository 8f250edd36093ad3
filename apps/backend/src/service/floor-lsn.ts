import { maxLsn, type ChangeLog, type Lsn } from '@moonlink/core'

/**
 * Where a stream can begin so that nothing is missing after it: at the log's start, where the log has what the slot let go of, and never before what every table has in
 * Iceberg. Nobody needs what lies before that, and a backend before this one may still be removing it from the log.
 */
export function floorLsn(log: Pick<ChangeLog, 'status'> | null, slotLsn: Lsn, coveredLsn: Lsn): Lsn {
  const range = log?.status.range ?? null
  const heldLsn = range === null || slotLsn <= range.startLsn ? slotLsn : range.startLsn
  return maxLsn(heldLsn, coveredLsn)
}
