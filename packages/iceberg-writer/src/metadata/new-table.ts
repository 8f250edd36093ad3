import type { JsonObject } from '@moonlink/core'
import { lastColumnId } from './schema-json.ts'

export interface NewTable {
  readonly uuid: string
  /** Absolute URI without a slash at its end. */
  readonly location: string
  /** Iceberg schema JSON; its ids are used as they are. */
  readonly schema: JsonObject
  readonly properties: Readonly<Record<string, string>>
  readonly nowMs: number
}

/** Metadata of a new, empty, unpartitioned, unsorted format-version 3 table (Iceberg spec, "Table Metadata Fields"). */
export function newTableMetadata(table: NewTable): JsonObject {
  return {
    'format-version': 3,
    'table-uuid': table.uuid,
    location: table.location,
    'last-sequence-number': 0,
    'last-updated-ms': table.nowMs,
    'last-column-id': lastColumnId(table.schema),
    'current-schema-id': 0,
    schemas: [{ ...table.schema, 'schema-id': 0 }],
    'default-spec-id': 0,
    'partition-specs': [{ 'spec-id': 0, fields: [] }],
    'last-partition-id': 999,
    'default-sort-order-id': 0,
    'sort-orders': [{ 'order-id': 0, fields: [] }],
    properties: { ...table.properties },
    'current-snapshot-id': null,
    'next-row-id': 0,
    refs: {},
    snapshots: [],
    statistics: [],
    'partition-statistics': [],
    'snapshot-log': [],
    'metadata-log': [],
  }
}
