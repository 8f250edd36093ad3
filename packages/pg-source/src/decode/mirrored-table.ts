import type { TableName, TableSchema } from '@moonlink/core'
import type { MappedColumn } from '../types/index.ts'

/** What the decoder must know of a table that is mirrored. */
export interface MirroredTable {
  readonly table: TableName
  readonly schema: TableSchema
  /** In the order of the schema's fields, which has one or two for each. */
  readonly columns: readonly MappedColumn[]
  /** Columns that the source may send and that are left out of the mirror. */
  readonly excluded?: ReadonlySet<string>
  /** `pg_class.oid`; where given, another table under the same name is taken for a change of schema. */
  readonly relationOid?: number
  /** What has to be kept to come back to this shape (see `TableShape`). */
  readonly sourceState?: string
}

/** A column as a Relation message describes it. */
export interface RelationColumn {
  readonly name: string
  readonly typeOid: number
  readonly typmod: number
  /** Part of the replica identity; under FULL every column is. */
  readonly isKey: boolean
}

/** A Relation message. */
export interface Relation {
  readonly oid: number
  readonly schema: string
  readonly name: string
  /** `d` default, `n` nothing, `f` full, `i` index. */
  readonly replicaIdentity: string
  readonly columns: readonly RelationColumn[]
}
