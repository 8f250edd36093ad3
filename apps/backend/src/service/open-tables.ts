import { formatTableName, isMoonlinkError } from '@moonlink/core'
import { isRefusal } from '@moonlink/table-engine'
import { allSettledOrThrow } from './all-settled.ts'
import { isTableError } from './mirrors.ts'
import type { ListedSourceTable } from './parts.ts'

/** Tables that are opened at a time: each waits for a store that may be far. */
const OPENED_AT_ONCE = 32

/**
 * Opens tables side by side. Returns what kept single ones from it, by name: their Iceberg table is damaged, refused, or away, or the source's was dropped meanwhile. Throws what concerns all of them, as where all are refused or away.
 */
export async function openTables(
  tables: readonly ListedSourceTable[],
  open: (listed: ListedSourceTable) => Promise<void>,
): Promise<ReadonlyMap<string, unknown>> {
  const waiting = [...tables]
  const failed = new Map<string, unknown>()
  const alike: unknown[] = []
  let opened = 0
  const openNext = async (listed: ListedSourceTable) => {
    try {
      await open(listed)
      opened++
    } catch (error) {
      const mayBeAlike = mayPassAlone(error)
      if (!mayBeAlike && !isTableError(error) && !isGone(error)) throw error
      failed.set(formatTableName(listed.table), error)
      if (mayBeAlike) alike.push(error)
      // To find out that a store is away takes a while each time.
      if (isMoonlinkError(error, 'retry') && opened === 0 && alike.length >= OPENED_AT_ONCE) throw error
    }
  }
  const lane = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await openNext(next)
  }
  const lanes = Array.from({ length: OPENED_AT_ONCE }, () =>
    lane().catch((error: unknown) => {
      waiting.length = 0
      throw error
    }),
  )
  await allSettledOrThrow(lanes)
  if (opened === 0 && alike.length > 0) throw alike[0]
  return failed
}

function isGone(error: unknown): boolean {
  return isMoonlinkError(error) && error.code === 'TABLE_UNKNOWN'
}

/** Whether an error of opening a table may concern it alone, and pass without a change to it: it is refused, or its store or catalog is away. */
export function mayPassAlone(error: unknown): boolean {
  if (!isMoonlinkError(error)) return false
  return error.kind === 'retry' ? !isOfSource(error.code) : isRefusal(error.code)
}

/** Whether an error of what Iceberg has of a table may concern it alone. Whether it does, the others tell. */
export function mayBeAlone(error: unknown): boolean {
  if (!isMoonlinkError(error)) return false
  return mayPassAlone(error) || isTableError(error) || error.kind === 'conflict' || error.code === 'TABLE_NOT_FOUND'
}

/** All tables share that. */
export function isOfSource(code: string): boolean {
  return code.startsWith('PG_')
}
