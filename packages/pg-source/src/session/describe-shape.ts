import { formatTableName, hasVariant, MoonlinkError, type TableName } from '@moonlink/core'
import pg from 'pg'
import type { MirroredTable } from '../decode/index.ts'
import { FieldIds, isWhollySendable, joinTypes, mapColumn, type MappedColumn, type MappingOptions } from '../types/index.ts'
import type { Publications } from './publication-state.ts'
import { sentColumns } from './published.ts'
import type { RelationShape, ShapeColumn } from './relation-shape.ts'
import { encodeSourceState } from './source-state.ts'

/** A table's shape as it is mirrored. */
export interface MappedShape extends MirroredTable {
  readonly relation: RelationShape
  readonly excluded: ReadonlySet<string>
  readonly relationOid: number
  readonly sourceState: string
  readonly notes: readonly string[]
  /** Columns whose values a stream must bring in one form; a stream has one for all. */
  readonly streamForms: readonly StreamForm[]
}

/** A column and the one form in which its values can be read from a stream. */
export interface StreamForm {
  readonly form: 'binary' | 'text'
  readonly column: string
  readonly typeName: string
}

export interface ShapeOptions {
  readonly excludeColumns: Readonly<Record<string, readonly string[]>>
  readonly appendOnly: readonly string[]
  readonly publications: Publications
  readonly versionNumber: number
  readonly mapping: MappingOptions
}

/**
 * Maps a relation's columns to fields with these ids, which get those that they lack. Throws `invalid`, naming the table and the column, where
 * that can't be done.
 */
export function describeShape(table: TableName, relation: RelationShape, options: ShapeOptions, ids = new FieldIds()): MappedShape {
  const name = formatTableName(table)
  const key = identityColumns(relation)
  refuseContradictory(name, relation, key)
  const wanted = new Set(options.excludeColumns[name] ?? [])
  const sends = sentColumns(name, options.appendOnly.includes(name), options.publications, options.versionNumber)
  const { columns, excluded, notes, streamForms } = mapColumns(table, relation, key, { wanted, sends }, options.mapping, ids)
  const fields = columns.flatMap(({ field, textField }) => (textField ? [field, textField] : [field]))
  return {
    table,
    schema: { fields, identifierFieldIds: key.map((number) => ids.of(number).column) },
    columns,
    excluded,
    relation,
    relationOid: relation.oid,
    sourceState: encodeSourceState({ relation, ids: ids.toMap() }),
    notes,
    streamForms,
  }
}

/**
 * Attribute numbers by which the source names old rows, in key order: those of the replica identity's index where one is chosen,
 * else of the primary key. Empty where whole rows do, or nothing does.
 */
export function identityColumns(row: Pick<RelationShape, 'keys' | 'replicaIdentity'>): readonly number[] {
  // A deferrable key may hold duplicates within a transaction; Postgres takes none for an identity.
  const index = row.keys.find((key) => key.isImmediate && (row.replicaIdentity === 'i' ? key.isReplicaIdentity : key.isPrimary))
  return index?.columns ?? []
}

interface MappedColumns {
  readonly columns: MappedColumn[]
  readonly excluded: ReadonlySet<string>
  readonly notes: string[]
  readonly streamForms: StreamForm[]
}

function mapColumns(
  table: TableName,
  row: RelationShape,
  key: readonly number[],
  { wanted, sends }: { readonly wanted: ReadonlySet<string>; readonly sends: (column: ShapeColumn) => boolean },
  mapping: MappingOptions,
  ids: FieldIds,
): MappedColumns {
  const name = formatTableName(table)
  refuseUnknown(name, row, wanted, 'source.excludeColumns')
  refuseUnknown(name, row, Object.keys(mapping.policy.columns[name] ?? {}), 'source.columns')
  const typeOf = joinTypes(row.types)
  const streamForms: StreamForm[] = []
  const excluded = new Set<string>()
  const notes: string[] = []
  const columns: MappedColumn[] = []
  for (const column of row.columns) {
    const isSent = sends(column)
    const { typeName, typmod, dimensions, number } = column
    const type = typeOf(column.typeOid)
    if (!wanted.has(column.name) && isSent) {
      const isKey = key.includes(number)
      const required = column.isNotNull || isKey
      const source = { name: column.name, number, type, typmod, dimensions, typeName, required, isKey }
      const mapped = mapColumn(table, source, mapping, ids.of(number))
      columns.push(mapped)
      if (mapped.streamForm !== 'any') streamForms.push({ form: mapped.streamForm, column: column.name, typeName })
      if (hasVariant(mapped.field.type)) notes.push(variantNote(column.name))
      if (mapped.streamForm === 'text') notes.push(textNote(column.name, typeName))
      continue
    }
    // It may be published all the same.
    if (type.isSendable && !isWhollySendable(type)) streamForms.push({ form: 'text', column: column.name, typeName })
    if (key.includes(column.number)) {
      throw new MoonlinkError(
        'invalid',
        'COLUMN_IN_KEY',
        `${name}: column "${column.name}" is part of the key and can't be left out${isSent ? '' : ', yet it is not published'}. Choose another replica identity: ALTER TABLE ${quoted(row)} REPLICA IDENTITY FULL or USING INDEX.`,
        { context: { table: name, column: column.name } },
      )
    }
    excluded.add(column.name)
    notes.push(
      isSent
        ? `column "${column.name}" is left out, as configured`
        : `column "${column.name}" is ${column.generated === '' ? 'not published' : 'generated, and not published'}: left out`,
    )
  }
  if (columns.length === 0) throw refusal(name, 'has no column to mirror')
  refuseSameNames(name, columns)
  refuseReservedNames(name, columns)
  refuseTaken(name, columns)
  return { columns, excluded, notes, streamForms }
}

function variantNote(column: string): string {
  return `column "${column}" becomes a variant: PyIceberg can't load such a table, and Spark needs version 4 with Iceberg 1.10 or later`
}

function textNote(column: string, typeName: string): string {
  return `column "${column}" has type ${typeName}, whose binary form is not known here: the whole stream comes as text, which takes longer`
}

/** What no catalog has; a message in the log, or what was kept with a table, may. */
function refuseContradictory(name: string, { columns }: RelationShape, key: readonly number[]): void {
  const numbers = new Set(columns.map(({ number }) => number))
  if (numbers.size < columns.length) throw refusal(name, 'is described with two columns of one number')
  if (!key.every((number) => numbers.has(number))) throw refusal(name, 'is described with a key of columns that it does not have')
}

function refuseUnknown(name: string, row: RelationShape, columns: Iterable<string>, setting: string): void {
  for (const column of columns) {
    if (row.columns.some((known) => known.name === column)) continue
    throw new MoonlinkError('invalid', 'COLUMN_UNKNOWN', `${name} has no column "${column}". Take it out of ${setting}, or correct it.`, {
      context: { table: name, column },
    })
  }
}

/** Names of Iceberg's metadata columns ("Reserved Field IDs" in the specification): Spark refuses a table that has one of its own. */
const RESERVED_NAMES: ReadonlySet<string> = new Set([
  '_file',
  '_pos',
  '_deleted',
  '_spec_id',
  '_partition',
  '_row_id',
  '_last_updated_sequence_number',
])

function refuseReservedNames(name: string, columns: readonly MappedColumn[]): void {
  const reserved = columns.find((column) => RESERVED_NAMES.has(column.name.toLowerCase()))
  if (reserved === undefined) return
  throw refusal(
    name,
    `has a column "${reserved.name}", a name that Iceberg keeps for itself. Rename it, or leave it out with source.excludeColumns: {${name}: [${reserved.name}]}`,
  )
}

/** Spark and DuckDB take names without regard to case: one such column would be read as the other. */
function refuseSameNames(name: string, columns: readonly MappedColumn[]): void {
  const seen = new Map<string, string>()
  for (const column of columns) {
    const folded = column.name.toLowerCase()
    const other = seen.get(folded)
    if (other !== undefined) {
      throw refusal(
        name,
        `has columns "${other}" and "${column.name}", which differ only in case, and readers can't tell them apart. Rename one, or leave it out with source.excludeColumns: {${name}: [${column.name}]}`,
      )
    }
    seen.set(folded, column.name)
  }
}

/** The column for what does not fit must not meet another. */
function refuseTaken(name: string, columns: readonly MappedColumn[]): void {
  for (const { textField } of columns) {
    if (textField === null || !columns.some((column) => column.name.toLowerCase() === textField.name.toLowerCase())) continue
    throw new MoonlinkError(
      'invalid',
      'COLUMN_TAKEN',
      `${name} has a column "${textField.name}" already, which onUnfit: text would need. Choose error or null for that column in source.columns.`,
      { context: { table: name, column: textField.name } },
    )
  }
}

export function refusal(name: string, why: string): MoonlinkError {
  return new MoonlinkError('invalid', 'TABLE_UNSUPPORTED', `${name} ${why}.`, { context: { table: name } })
}

/** `"schema"."name"`, for a statement. */
export function quoted(table: TableName): string {
  return `${pg.escapeIdentifier(table.schema)}.${pg.escapeIdentifier(table.name)}`
}
