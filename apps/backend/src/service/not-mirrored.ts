import { MoonlinkError } from '@moonlink/core'
import { nearestTable } from '../config/nearest.ts'

/** What is said of a table that is named and not mirrored, with the mirrored one whose name is next to it. */
export function notMirrored(table: string, mirrored: Iterable<string>): MoonlinkError {
  const near = nearestTable(table, mirrored)
  const remedy = near === null ? 'moonlink tables list shows what is' : `did you mean ${near}? (moonlink tables list shows what is)`
  return new MoonlinkError('invalid', 'TABLE_UNKNOWN', `${table} is not mirrored; ${remedy}`, { context: { table } })
}
