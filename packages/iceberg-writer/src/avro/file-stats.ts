import type { FileMetrics } from '../parquet/types.ts'
import { malformed, type Datum, type DatumRecord } from './avro-reader.ts'
import { AvroWriter, type Long } from './avro-writer.ts'

/**
 * The fields `column_sizes` to `sort_order_id` of a `data_file` in their Avro encoding.
 *
 * They lie side by side in the v3 schema, and nothing of ours looks into them once a file is written. So thousands of files' metrics
 * are kept as a few hundred bytes each, and a rewritten manifest copies them as they are.
 */
export type EncodedStats = Uint8Array

/** Stats of a deletion vector: none at all (they would have to be exact, and nobody reads them). */
export const NO_STATS: EncodedStats = new Uint8Array(10)

export function encodeFileStats(metrics: FileMetrics): EncodedStats {
  const avro = new AvroWriter(512)
  for (const counts of [metrics.columnSizes, metrics.valueCounts, metrics.nullCounts, metrics.nanCounts]) {
    writeMap(avro, entriesOf(counts), (value) => avro.long(value))
  }
  for (const bounds of [metrics.lowerBounds, metrics.upperBounds]) writeMap(avro, entriesOf(bounds), (value) => avro.bytesValue(value))
  avro.long(0)
  writeList(avro, metrics.splitOffsets.length > 0 ? metrics.splitOffsets : null)
  avro.long(0)
  writeInt(avro, 0)
  return avro.take()
}

/** Encodes the stats of a decoded `data_file` again; another writer's may lack some of the fields. */
export function decodeFileStats(record: DatumRecord): EncodedStats {
  const avro = new AvroWriter(512)
  for (const key of ['column_sizes', 'value_counts', 'null_value_counts', 'nan_value_counts']) {
    writeMap(avro, pairsOf(record[key] ?? null), (value) => avro.long(value as Long))
  }
  for (const key of ['lower_bounds', 'upper_bounds']) {
    writeMap(avro, pairsOf(record[key] ?? null), (value) => avro.bytesValue(value as Uint8Array))
  }
  const keyMetadata = (record['key_metadata'] ?? null) as Uint8Array | null
  if (avro.optional(keyMetadata)) avro.bytesValue(keyMetadata)
  writeList(avro, (record['split_offsets'] ?? null) as readonly Long[] | null)
  writeList(avro, (record['equality_ids'] ?? null) as readonly Long[] | null)
  writeInt(avro, (record['sort_order_id'] ?? null) as Long | null)
  return avro.take()
}

function writeMap<T>(avro: AvroWriter, entries: readonly (readonly [number, T])[], writeValue: (value: T) => void): void {
  if (!avro.optional(entries.length === 0 ? null : entries)) return
  avro.long(entries.length)
  for (const [key, value] of entries) {
    avro.long(key)
    writeValue(value)
  }
  avro.long(0)
}

function writeList(avro: AvroWriter, values: readonly Long[] | null): void {
  if (!avro.optional(values)) return
  if (values.length > 0) {
    avro.long(values.length)
    for (const value of values) avro.long(value)
  }
  avro.long(0)
}

function writeInt(avro: AvroWriter, value: Long | null): void {
  if (avro.optional(value)) avro.long(value)
}

function entriesOf<T>(values: Readonly<Record<number, T>>): (readonly [number, T])[] {
  return Object.entries(values).map(([key, value]) => [Number(key), value] as const)
}

function pairsOf(datum: Datum): (readonly [number, Datum])[] {
  if (datum === null) return []
  if (!Array.isArray(datum)) throw malformed('a metrics map is not an array of pairs')
  return (datum as readonly DatumRecord[]).map((pair) => [Number(pair['key']), pair['value'] ?? null] as const)
}
