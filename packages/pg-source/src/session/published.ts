import { formatTableName, MoonlinkError, type TableName } from '@moonlink/core'
import pg from 'pg'
import type { RelationRow } from './catalog-rows.ts'
import {
  missingOperations,
  publishesInsertsOnly,
  publishStatement,
  type PublicationState,
  type Publications,
  type WantedOperations,
} from './publication-state.ts'
import type { ShapeColumn } from './relation-shape.ts'

/** The statement that makes a publication publish a table. */
export function addStatement(publication: string, { schema, name }: TableName): string {
  return `ALTER PUBLICATION ${pg.escapeIdentifier(publication)} ADD TABLE ONLY ${pg.escapeIdentifier(schema)}.${pg.escapeIdentifier(name)}`
}

/** How a table is published, or will be once our publication has it. */
export interface Published {
  readonly appendOnly: boolean
  /** `PublishedTable.filterOid` */
  readonly filterOid: number | null
  /** `PublishedTable.edition`; null where no publication has it, as yet or any more. */
  readonly edition: string | null
  /** Whether the column's values are sent. */
  sends(column: ShapeColumn): boolean
}

/**
 * How publications publish a table. Throws `invalid` where a given one does not: `TABLE_UNPUBLISHED`, or `PG_PUBLICATION_OPERATIONS` where it publishes changes
 * of a table that is to be append-only.
 */
export function publishedAs(
  row: RelationRow,
  isAppendOnly: boolean,
  publications: Publications,
  { hasIdentity, versionNumber }: { readonly hasIdentity: boolean; readonly versionNumber: number },
): Published {
  const { main } = publications
  const name = formatTableName(row)
  if (isAppendOnly && main !== null && !main.isOurs && main.tables.has(name) && !publishesInsertsOnly(main)) {
    throw new MoonlinkError(
      'invalid',
      'PG_PUBLICATION_OPERATIONS',
      `${name} is append-only (source.appendOnly), yet publication "${main.name}" publishes its updates and deletes. Take it out of source.appendOnly, or out of that publication.`,
      { context: { table: name, publication: main.name } },
    )
  }
  const state = publicationOf(name, isAppendOnly, publications)
  const entry = state?.tables.get(name) ?? null
  if (state !== null && !state.isOurs && entry === null) throw unpublished(row, state, hasIdentity)
  const appendOnly = isAppendOnly || (state !== null && !state.isOurs && publishesInsertsOnly(state))
  if (state !== null && entry !== null) refuseOperations(name, state, isAppendOnly ? 'inserts' : appendOnly ? 'inserts so far' : 'all')
  return {
    appendOnly,
    filterOid: entry?.filterOid ?? null,
    edition: entry?.edition ?? null,
    sends: sentColumns(name, isAppendOnly, publications, versionNumber),
  }
}

function refuseOperations(table: string, state: PublicationState, wanted: WantedOperations): void {
  const missing = missingOperations(state, wanted !== 'all')
  if (missing.length === 0) return
  throw new MoonlinkError(
    'invalid',
    'PG_PUBLICATION_OPERATIONS',
    `${table}: publication "${state.name}" does not publish ${missing.join(' and ')}, so the mirror would not be the table. Run ${publishStatement(state.name, wanted)}; a table that was mirrored is made equal then by moonlink tables resync ${table}.`,
    { context: { table, publication: state.name } },
  )
}

/** Tells the columns whose values are sent, those that a table gets later among them. */
export function sentColumns(
  name: string,
  isAppendOnly: boolean,
  publications: Publications,
  versionNumber: number,
): (column: ShapeColumn) => boolean {
  const state = publicationOf(name, isAppendOnly, publications)
  const columns = state?.tables.get(name)?.columns ?? null
  const sendsGenerated = state?.generated ?? versionNumber >= 180_000
  return ({ generated, number }) => {
    if (generated !== '' && versionNumber < 180_000) return false
    return columns === null ? generated === '' || (generated === 's' && sendsGenerated) : columns.has(number)
  }
}

/** `PublishedTable.edition` of a table; null where no publication has it. */
export function editionOf(name: string, isAppendOnly: boolean, publications: Publications): string | null {
  return publicationOf(name, isAppendOnly, publications)?.tables.get(name)?.edition ?? null
}

function publicationOf(name: string, isAppendOnly: boolean, { main, append }: Publications): PublicationState | null {
  return !isAppendOnly || main?.tables.has(name) === true ? main : append
}

function unpublished(row: RelationRow, state: PublicationState, hasIdentity: boolean): MoonlinkError {
  const name = formatTableName(row)
  const context = { context: { table: name, publication: state.name } }
  const refuse = (why: string) => new MoonlinkError('invalid', 'TABLE_UNPUBLISHED', `${name} ${why}.`, context)
  const root = row.root === null ? null : formatTableName(row.root)
  if (row.kind === 'p' && row.partitions.some((partition) => state.tables.has(formatTableName(partition)))) {
    return refuse(
      `is published by its partitions. Mirror those, or run ALTER PUBLICATION ${pg.escapeIdentifier(state.name)} SET (publish_via_partition_root = true)`,
    )
  }
  if (row.isPartition && root !== null && state.tables.has(root)) return refuse(`is a partition, published as ${root}. Mirror that`)
  const before =
    hasIdentity || publishesInsertsOnly(state)
      ? ''
      : `give it a primary key or REPLICA IDENTITY FULL first, since Postgres refuses its updates and deletes otherwise once it is published; then `
  return refuse(
    `is not published by "${state.name}", which was not made here and so is not changed here. Let its owner ${before}run: ${addStatement(state.name, row)}`,
  )
}
