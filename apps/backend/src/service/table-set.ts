import { formatTableName, isMoonlinkError, MoonlinkError, parseTableName } from '@moonlink/core'
import { nearestTable } from '../config/nearest.ts'
import type { ListedSourceTable, SourceHandle } from './parts.ts'

/** What the configuration and earlier `tables add` and `tables drop` ask for. */
export interface WantedTables {
  /** Of the configuration; empty: every table that can be mirrored. */
  readonly configured: readonly string[]
  readonly added: readonly string[]
  readonly dropped: readonly string[]
  /** Mirrored before. */
  readonly known: readonly string[]
}

export interface ChosenTables {
  readonly chosen: readonly ListedSourceTable[]
  /** Tables mirrored before that can't be any more, and why. */
  readonly refused: ReadonlyMap<string, string>
}

/**
 * The tables to mirror. One that is named must be there and be mirrorable: throws `invalid`, with the source's reason; but one that
 * was mirrored before does not keep the others from going on. Where none is named, those that can't be mirrored, and were not before, are left out.
 */
export function chooseTables(listed: readonly ListedSourceTable[], wanted: WantedTables): ChosenTables {
  const dropped = new Set(wanted.dropped)
  const isAll = wanted.configured.length === 0
  const named = [...new Set([...wanted.configured, ...wanted.added, ...(isAll ? wanted.known : [])])].filter((name) => !dropped.has(name))
  const refused = new Map<string, string>()
  const chosen = named.flatMap((name) => {
    try {
      return [mirrorable(listed, name)]
    } catch (error) {
      if (!isMoonlinkError(error) || !wanted.known.includes(name)) throw error
      const remedy = `moonlink tables add ${name} takes it on again once that is mended, and moonlink tables drop ${name} ends its mirroring`
      refused.set(name, `${error.code} ${error.message.replace(/\.$/, '')}; ${remedy}`)
      return []
    }
  })
  if (!isAll) return { chosen, refused }
  const others = listed.filter((table) => table.refusal === null && !dropped.has(formatTableName(table.table)) && !chosen.includes(table))
  return { chosen: [...chosen, ...others], refused }
}

/** The listed table of that name. Throws where there is none, or where it can't be mirrored. */
export function mirrorable(listed: readonly ListedSourceTable[], name: string): ListedSourceTable {
  const found = listed.find((table) => formatTableName(table.table) === name)
  if (found === undefined) {
    const near = nearestTable(
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
  if (found.refusal !== null) throw new MoonlinkError('invalid', found.refusal.code, found.refusal.reason, { context: { table: name } })
  return found
}

/** Every table of the source, and what else has one of the names, such as a view: that is refused for what it is. */
export async function listWith(source: Pick<SourceHandle, 'listTables'>, names: readonly string[]): Promise<readonly ListedSourceTable[]> {
  const listed = await source.listTables()
  const known = new Set(listed.map(({ table }) => formatTableName(table)))
  const missing = [...new Set(names)].filter((name) => !known.has(name))
  if (missing.length === 0) return listed
  const others = await source.listTables(missing.map(parseTableName))
  return [...listed, ...others.filter(({ refusal }) => refusal?.code !== 'TABLE_UNKNOWN')]
}
