import { defaultColumn, MoonlinkError, type Column, type ColumnBatch, type Field, type RowsToWrite, type TableSchema } from '@moonlink/core'
import { Compression, Table, wasmMemory, writeParquet, WriterPropertiesBuilder } from 'parquet-wasm'
import { annotate } from './annotate.ts'
import { toIpcStream } from './arrow-ipc.ts'
import { concatFiles } from './concat-files.ts'
import { FileMetaData, KeyValue } from './footer.ts'
import { lineageColumn, LINEAGE_FIELDS } from './lineage.ts'
import { fileMetrics } from './metrics.ts'
import { sliceColumn } from './slice-column.ts'
import type { ThriftStruct } from './thrift-compact.ts'
import type { EncodedParquet, EncodeOptions, ParquetCompression } from './types.ts'

const DEFAULT_ROW_GROUP_ROWS = 122_880
/** The number counts changes of the layout. The form is what parquet-java parses. */
const CREATED_BY = 'moonlink version 1'

const CODECS: Readonly<Record<ParquetCompression, Compression>> = {
  zstd: Compression.ZSTD,
  snappy: Compression.SNAPPY,
  gzip: Compression.GZIP,
  uncompressed: Compression.UNCOMPRESSED,
}

/**
 * Writes rows as one Parquet file: the schema's fields in order, then lineage columns where `rows` has them. A field that the rows lack
 * is written with its initial default. Blocks the thread; memory beside the result is that of one row group in several forms.
 * Throws `invalid` where a required field lacks or has nulls.
 */
export function encodeParquet(rows: RowsToWrite, schema: TableSchema, options: EncodeOptions = {}): EncodedParquet {
  const batch = columnsToWrite(rows, schema)
  const rowGroupRows = options.rowGroupRows ?? DEFAULT_ROW_GROUP_ROWS
  const parts: Uint8Array[] = []
  for (let from = 0; from === 0 || from < batch.length; from += rowGroupRows) {
    const to = Math.min(from + rowGroupRows, batch.length)
    parts.push(writeRowGroup(toIpcStream(sliceRows(batch, from, to)), CODECS[options.compression ?? 'zstd'], rowGroupRows))
  }
  const { bytes, metadata } = concatFiles(parts, (footer) => finishFooter(footer, batch.fields))
  return { bytes, recordCount: batch.length, metrics: fileMetrics(batch, metadata) }
}

/** Bytes of WebAssembly memory that this thread holds; they never shrink. */
export function wasmMemoryBytes(): number {
  return wasmMemory().buffer.byteLength
}

function columnsToWrite({ rows, rowIds, lastUpdated }: RowsToWrite, schema: TableSchema): ColumnBatch {
  const fields: Field[] = [...schema.fields]
  const columns = schema.fields.map((field) => columnOf(rows, field))
  ;[rowIds, lastUpdated].forEach((values, index) => {
    if (values === null) return
    fields.push(LINEAGE_FIELDS[index])
    columns.push(lineageColumn(values, rows.length))
  })
  return { fields, columns, length: rows.length }
}

function columnOf(rows: ColumnBatch, field: Field): Column {
  const index = rows.fields.findIndex(({ id }) => id === field.id)
  const column = index < 0 ? defaultColumn(field, rows.length) : sliceColumn(rows.columns[index], 0, rows.length)
  if (field.required && column.nullCount > 0) {
    const message = `field "${field.name}" is required, but ${column.nullCount} of ${column.length} rows to write have none; make it optional`
    throw new MoonlinkError('invalid', 'PARQUET_REQUIRED_FIELD_NULL', message, { context: { field: field.id } })
  }
  return column
}

function sliceRows(batch: ColumnBatch, from: number, to: number): ColumnBatch {
  return { fields: batch.fields, columns: batch.columns.map((column) => sliceColumn(column, from, to)), length: to - from }
}

function writeRowGroup(ipc: Uint8Array, codec: Compression, maxRows: number): Uint8Array {
  const properties = new WriterPropertiesBuilder().setCompression(codec).setMaxRowGroupSize(maxRows).setCreatedBy(CREATED_BY).build()
  // `writeParquet` consumes both, also where it throws.
  return writeParquet(Table.fromIPCStream(ipc), properties)
}

function finishFooter(metadata: ThriftStruct, fields: readonly Field[]): void {
  annotate(metadata, fields)
  // The writer's copy of the Arrow schema says nothing that Parquet does not.
  const pairs = metadata.structs(FileMetaData.KEY_VALUES).filter((pair) => pair.text(KeyValue.KEY) !== 'ARROW:schema')
  if (pairs.length === 0) metadata.delete(FileMetaData.KEY_VALUES)
  else metadata.setStructs(FileMetaData.KEY_VALUES, pairs)
}
