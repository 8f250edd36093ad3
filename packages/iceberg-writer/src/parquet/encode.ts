import { batchByteSize, defaultColumn, type Column, type ColumnBatch, type Field, type RowsToWrite, type TableSchema } from '@moonlink/core'
import { lineageColumn, LINEAGE_FIELDS } from './lineage.ts'
import type { EncodedParquet, EncodeOptions } from './types.ts'
import { assembleFile } from './write/assemble.ts'
import { fileSchema } from './write/file-schema.ts'
import { encodeRowGroup, type EncodedRowGroup } from './write/row-group.ts'

const DEFAULT_ROW_GROUP_ROWS = 122_880
/** Row groups of wide rows have fewer of them, about so many bytes before encoding. */
const ROW_GROUP_BYTES = 128 * 1024 * 1024
export const DEFAULT_COMPRESSION = 'zstd'

/**
 * Writes rows as one Parquet file: the schema's fields in order, then lineage columns where `rows` has them. A field that the rows lack
 * is written with its initial default. Blocks the thread; memory beside the result is that of one column of a row group in several forms.
 * Throws `invalid` where a required field lacks or has nulls.
 */
export function encodeParquet(rows: RowsToWrite, schema: TableSchema, options: EncodeOptions = {}): EncodedParquet {
  return assembleFile(encodeRowGroups(rows, schema, options), fieldsToWrite(rows, schema), options.compression ?? DEFAULT_COMPRESSION)
}

/** The row groups of such a file, to be put together by `assembleFile`; none where there are no rows. */
export function encodeRowGroups(rows: RowsToWrite, schema: TableSchema, options: EncodeOptions = {}): EncodedRowGroup[] {
  const batch = columnsToWrite(rows, schema)
  const layout = fileSchema(batch.fields)
  const limit = options.rowGroupRows ?? DEFAULT_ROW_GROUP_ROWS
  const parts = Math.max(Math.ceil(batch.length / limit), Math.ceil(batchByteSize(batch) / ROW_GROUP_BYTES))
  const size = parts > Math.ceil(batch.length / limit) ? Math.ceil(batch.length / parts) : limit
  const groups: EncodedRowGroup[] = []
  for (let from = 0; from < batch.length; from += size) {
    const to = Math.min(from + size, batch.length)
    groups.push(encodeRowGroup(batch, layout, from, to, options.compression ?? DEFAULT_COMPRESSION))
  }
  return groups
}

/** The fields of the file that `rows` become. */
export function fieldsToWrite({ rowIds, lastUpdated }: RowsToWrite, schema: TableSchema): readonly Field[] {
  return [...schema.fields, ...[rowIds, lastUpdated].flatMap((values, index) => (values === null ? [] : [LINEAGE_FIELDS[index]]))]
}

function columnsToWrite(given: RowsToWrite, schema: TableSchema): ColumnBatch {
  const { rows, rowIds, lastUpdated } = given
  const lineage = [rowIds, lastUpdated].flatMap((values) => (values === null ? [] : [lineageColumn(values, rows.length)]))
  const columns = schema.fields.map((field) => columnOf(rows, field))
  return { fields: fieldsToWrite(given, schema), columns: [...columns, ...lineage], length: rows.length }
}

function columnOf(rows: ColumnBatch, field: Field): Column {
  const index = rows.fields.findIndex(({ id }) => id === field.id)
  return index < 0 ? defaultColumn(field, rows.length) : rows.columns[index]
}
