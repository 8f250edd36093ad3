import { fixedWidth, type Column, type ColumnBatch, type Field, type FieldType } from '@moonlink/core'
import * as arrow from 'apache-arrow'

/** The Arrow type of an Iceberg type (Iceberg spec, appendix A, as Java and PyIceberg map it). */
export function toArrowType(type: FieldType): arrow.DataType {
  switch (type.kind) {
    case 'boolean':
      return new arrow.Bool()
    case 'int':
      return new arrow.Int32()
    case 'long':
      return new arrow.Int64()
    case 'float':
      return new arrow.Float32()
    case 'double':
      return new arrow.Float64()
    case 'decimal':
      return new arrow.Decimal(type.scale, type.precision, 128)
    case 'date':
      return new arrow.DateDay()
    case 'time':
      return new arrow.TimeMicrosecond()
    case 'timestamp':
      return new arrow.TimestampMicrosecond()
    case 'timestamptz':
      return new arrow.TimestampMicrosecond('UTC')
    case 'string':
    case 'variant':
      return new arrow.Utf8()
    case 'binary':
      return new arrow.Binary()
    case 'uuid':
    case 'fixed':
      return new arrow.FixedSizeBinary(fixedWidth(type))
    case 'list':
      return new arrow.List(arrowField('element', type.element, type.elementRequired, type.elementId))
    case 'struct':
      return new arrow.Struct(type.fields.map(toArrowField))
  }
}

/** The Arrow field of an Iceberg field, with its id under the metadata key that Parquet writers read. */
export function toArrowField(field: Field): arrow.Field {
  return arrowField(field.name, field.type, field.required, field.id)
}

function arrowField(name: string, type: FieldType, required: boolean, id: number): arrow.Field {
  return new arrow.Field(name, toArrowType(type), !required, new Map([['PARQUET:field_id', String(id)]]))
}

/** The batch as an Arrow record batch over the same memory. Copies nothing. */
export function toRecordBatch(batch: ColumnBatch): arrow.RecordBatch {
  const schema = new arrow.Schema(batch.fields.map(toArrowField))
  const children = batch.columns.map((column) => toArrowData(column, batch.length))
  const struct = arrow.makeData({ type: new arrow.Struct(schema.fields), length: batch.length, nullCount: 0, children })
  return new arrow.RecordBatch(schema, struct)
}

/** The batch as one Arrow IPC stream. */
export function toIpcStream(batch: ColumnBatch): Uint8Array {
  return arrow.tableToIPC(new arrow.Table([toRecordBatch(batch)]), 'stream')
}

function toArrowData(column: Column, length: number): arrow.Data {
  const type = toArrowType(column.type)
  const bytes = bytesUsed(column, length)
  const { buffer, byteOffset } = column.values
  const shared = { length, nullCount: column.nullCount, nullBitmap: column.validity?.subarray(0, (length + 7) >> 3) ?? null }
  switch (column.type.kind) {
    case 'int':
    case 'date':
      return make(type, { ...shared, data: new Int32Array(buffer, byteOffset, length) })
    case 'float':
      return make(type, { ...shared, data: new Float32Array(buffer, byteOffset, length) })
    case 'double':
      return make(type, { ...shared, data: new Float64Array(buffer, byteOffset, length) })
    case 'long':
    case 'time':
    case 'timestamp':
    case 'timestamptz':
      return make(type, { ...shared, data: new BigInt64Array(buffer, byteOffset, length) })
    case 'decimal':
      return make(type, { ...shared, data: new Uint32Array(buffer, byteOffset, length * 4) })
    case 'string':
    case 'binary':
    case 'variant':
      return make(type, { ...shared, data: column.values.subarray(0, bytes), valueOffsets: column.offsets!.subarray(0, length + 1) })
    case 'list': {
      const child = toArrowData(column.children[0], column.offsets![length])
      return make(type, { ...shared, valueOffsets: column.offsets!.subarray(0, length + 1), child })
    }
    case 'struct':
      return make(type, { ...shared, children: column.children.map((child) => toArrowData(child, length)) })
    default:
      return make(type, { ...shared, data: column.values.subarray(0, bytes) })
  }
}

/** `makeData` is overloaded per type; the switch above pairs each type with its buffers. */
function make(type: arrow.DataType, props: object): arrow.Data {
  return arrow.makeData({ type, ...props } as Parameters<typeof arrow.makeData>[0])
}

function bytesUsed(column: Column, length: number): number {
  if (column.type.kind === 'boolean') return (length + 7) >> 3
  return column.offsets ? column.offsets[length] : length * fixedWidth(column.type)
}
