import { bitAt, ByteSink, hasVariant, VariantDecoder, VariantEncoder, type Column } from '@moonlink/core'

/** A variant's parts in a file, in their order (VariantEncoding.md of apache/parquet-format). */
export const VARIANT_PARTS = ['metadata', 'value'] as const

/** Values of bytes: value i is `values[offsets[i] … offsets[i+1])`. */
export interface BytesColumn {
  readonly values: Uint8Array
  readonly offsets: Int32Array
}

/**
 * Rows `[from, to)` of a column with each variant in it as its two parts, as a file has them, like parts of a struct; what lies before or behind those rows is
 * left out. A column without variants is returned as it is. Throws `invalid`/`VARIANT_UNFIT` or `VARIANT_JSON_MALFORMED` for text that is no variant.
 */
export function encodeVariants(column: Column, from: number, to: number): Column {
  if (!hasVariant(column.type)) return column
  if (column.type.kind === 'variant') return encodeText(column, from, to)
  const [first, last] = column.type.kind === 'list' ? [column.offsets![from], column.offsets![to]] : [from, to]
  return { ...column, children: column.children.map((child) => encodeVariants(child, first, last)) }
}

/** The text of variants that a file has as these parts. */
export function variantText(metadata: BytesColumn, value: BytesColumn, validity: Uint8Array | null, length: number): BytesColumn {
  const decoder = new VariantDecoder()
  const text = new ByteSink(Math.max(1024, value.values.length * 2))
  const offsets = new Int32Array(length + 1)
  for (let row = 0; row < length; row++) {
    if (validity === null || bitAt(validity, row)) {
      const [start, end] = [metadata.offsets[row], metadata.offsets[row + 1]]
      decoder.append(metadata.values, start, end, value.values, value.offsets[row], value.offsets[row + 1], text)
    }
    offsets[row + 1] = text.length
  }
  return { values: text.written(), offsets }
}

function encodeText(column: Column, from: number, to: number): Column {
  const { values, validity, length } = column
  const offsets = column.offsets!
  const encoder = new VariantEncoder()
  const metadataOffsets = new Int32Array(length + 1)
  const valueOffsets = new Int32Array(length + 1)
  for (let row = from; row < to; row++) {
    if (validity === null || bitAt(validity, row)) encoder.append(values, offsets[row], offsets[row + 1])
    metadataOffsets[row + 1] = encoder.metadata.length
    valueOffsets[row + 1] = encoder.values.length
  }
  metadataOffsets.fill(encoder.metadata.length, to + 1)
  valueOffsets.fill(encoder.values.length, to + 1)
  const part = (sink: ByteSink, partOffsets: Int32Array): Column => ({
    type: { kind: 'binary' },
    length,
    nullCount: 0,
    validity: null,
    values: sink.written(),
    offsets: partOffsets,
    children: [],
  })
  return { ...column, offsets: null, children: [part(encoder.metadata, metadataOffsets), part(encoder.values, valueOffsets)] }
}
