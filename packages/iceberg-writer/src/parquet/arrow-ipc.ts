import { fixedWidth, type Column, type ColumnBatch, type Field, type FieldType } from '@moonlink/core'
import * as arrow from 'apache-arrow'
import { isWrittenAsInt } from './annotate.ts'

/**
 * The batch as one Arrow IPC stream. Fields carry their ids as `PARQUET:field_id`, a list's element (named `element`) and a struct's parts their own too.
 * Uuids are plain bytes and some decimals integers (see `annotate`).
 * Columns begin at offset 0 and are exactly as long as the batch (see `sliceColumn`).
 */
export function toIpcStream(batch: ColumnBatch): Uint8Array {
  const schema = new arrow.Schema(batch.fields.map(({ name, type, required, id }) => arrowField(name, type, required, id)))
  const children = batch.columns.map(arrowData)
  const data = arrow.makeData({ type: new arrow.Struct(schema.fields), length: batch.length, nullCount: 0, children })
  const sink = new ChunkSink()
  new arrow.RecordBatchStreamWriter().reset(sink, schema).write(new arrow.RecordBatch(schema, data))
  return sink.concat(END_OF_STREAM)
}

/** Continuation marker and a length of zero (Arrow IPC streaming format). */
const END_OF_STREAM = new Uint8Array([255, 255, 255, 255, 0, 0, 0, 0])

/**
 * Keeps the writer's buffers apart. Arrow's own sink joins neighbours that lie in the same ArrayBuffer into one range, which loses or
 * reorders bytes where columns share one.
 */
class ChunkSink extends arrow.AsyncByteQueue {
  private readonly chunks: Uint8Array[] = []
  private size = 0

  override write(chunk: ArrayBufferLike | ArrayBufferView | string): void {
    if (!(chunk instanceof Uint8Array)) throw new TypeError('the IPC writer writes byte arrays')
    this.chunks.push(chunk)
    this.size += chunk.length
  }

  concat(end: Uint8Array): Uint8Array {
    const result = new Uint8Array(this.size + end.length)
    let at = 0
    for (const chunk of this.chunks) {
      result.set(chunk, at)
      at += chunk.length
    }
    result.set(end, at)
    return result
  }
}

function arrowField(name: string, type: FieldType, required: boolean, id: Field['id']): arrow.Field {
  return new arrow.Field(name, arrowType(type), !required, new Map([['PARQUET:field_id', String(id)]]))
}

/** The Arrow type of an Iceberg type, as Iceberg's Java and PyIceberg map it. */
function arrowType(type: FieldType): arrow.DataType {
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
      return isWrittenAsInt(type) ? new arrow.Int32() : new arrow.Decimal(type.scale, type.precision, 128)
    case 'date':
      return new arrow.DateDay()
    case 'time':
      return new arrow.TimeMicrosecond()
    case 'timestamp':
      return new arrow.TimestampMicrosecond()
    case 'timestamptz':
      return new arrow.TimestampMicrosecond('UTC')
    case 'string':
      return new arrow.Utf8()
    case 'binary':
      return new arrow.Binary()
    case 'uuid':
    case 'fixed':
      return new arrow.FixedSizeBinary(fixedWidth(type))
    case 'list':
      return new arrow.List(arrowField('element', type.element, type.elementRequired, type.elementId))
    case 'struct':
      return new arrow.Struct(type.fields.map((field) => arrowField(field.name, field.type, field.required, field.id)))
  }
}

/** `makeData` is overloaded per type; this pairs each type with its buffers. */
function arrowData(column: Column): arrow.Data {
  const { length, nullCount, validity: nullBitmap } = column
  const props = { type: arrowType(column.type), length, nullCount, nullBitmap, ...buffers(column) }
  return arrow.makeData(props as Parameters<typeof arrow.makeData>[0])
}

function buffers({ type, length, values, offsets, children }: Column): object {
  const { buffer, byteOffset } = values
  switch (type.kind) {
    case 'int':
    case 'date':
      return { data: new Int32Array(buffer, byteOffset, length) }
    case 'float':
      return { data: new Float32Array(buffer, byteOffset, length) }
    case 'double':
      return { data: new Float64Array(buffer, byteOffset, length) }
    case 'long':
    case 'time':
    case 'timestamp':
    case 'timestamptz':
      return { data: new BigInt64Array(buffer, byteOffset, length) }
    case 'decimal': {
      const words = new Int32Array(buffer, byteOffset, length * 4)
      return { data: isWrittenAsInt(type) ? lowWords(words) : words }
    }
    case 'list':
      return { valueOffsets: offsets!.subarray(0, length + 1), child: arrowData(children[0]) }
    case 'struct':
      return { children: children.map(arrowData) }
    case 'string':
    case 'binary':
      return { valueOffsets: offsets!.subarray(0, length + 1), data: values.subarray(0, offsets![length]) }
    case 'boolean':
      return { data: values.subarray(0, (length + 7) >> 3) }
    default:
      return { data: values.subarray(0, length * fixedWidth(type)) }
  }
}

function lowWords(words: Int32Array): Int32Array {
  return Int32Array.from({ length: words.length >> 2 }, (_, row) => words[row * 4])
}
