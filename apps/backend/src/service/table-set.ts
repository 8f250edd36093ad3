import { formatTableName, MoonlinkError } from '@moonlink/core'
import { nearest } from '../config/nearest.ts'
import type { ListedSourceTable } from './parts.ts'

/** What the configuration and earlier `tables add` and `tables drop` ask for. */
export interface WantedTables {
  /** Of the configuration; empty: every table that can be mirrored. */
  readonly configured: readonly string[]
  readonly added: readonly string[]
  readonly dropped: readonly string[]
}

/**
 * The tables to mirror. One that is named must be there and be mirrorable: throws `invalid`/`TABLE_UNKNOWN` or
 * `TABLE_UNSUPPORTED`. Where none is named, those that can't be mirrored are left out.
 */
export function chooseTables(listed: readonly ListedSourceTable[], wanted: WantedTables): ListedSourceTable[] {
  const dropped = new Set(wanted.dropped)
  const named = [...new Set([...wanted.configured, ...wanted.added])].filter((name) => !dropped.has(name))
  const chosen = named.map((name) => mirrorable(listed, name))
  if (wanted.configured.length > 0) return chosen
  const byDefault = listed.filter((table) => table.reason === null && !dropped.has(formatTableName(table.table)) && !chosen.includes(table))
  return [...chosen, ...byDefault]
}

/** The listed table of that name. Throws where there is none, or where it can't be mirrored. */
export function mirrorable(listed: readonly ListedSourceTable[], name: string): ListedSourceTable {
  const found = listed.find((table) => formatTableName(table.table) === name)
  if (found === undefined) {
    const near = nearest(
      name,
      listed.map((table) => formatTableName(table.table)),
    )
    throw new MoonlinkError(
      'invalid',
      'TABLE_UNKNOWN',
      `the source has no table ${name}${near === null ? '; moonlink tables list shows what there is' : `; did you mean ${near}?`}`,
      { context: { table: name } },
    )
  }
  if (found.reason !== null)
    throw new MoonlinkError('invalid', 'TABLE_UNSUPPORTED', `${name}: ${found.reason}`, { context: { table: name } })
  return found
}
