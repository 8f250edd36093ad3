import type { FileMetrics } from '../parquet/types.ts'
import { malformed, type Datum, type DatumRecord } from './avro-reader.ts'
import { AvroWriter, type Long } from './avro-writer.ts'
import { recordOf, requireNumber } from './records.ts'

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
    writeMap(avro, pairsOf(record[key] ?? null), (value) => avro.long(longOf(value)))
  }
  for (const key of ['lower_bounds', 'upper_bounds']) {
    writeMap(avro, pairsOf(record[key] ?? null), (value) => avro.bytesValue(bytesOf(value)))
  }
  const keyMetadata = optional(record['key_metadata'], bytesOf)
  if (avro.optional(keyMetadata)) avro.bytesValue(keyMetadata)
  writeList(avro, optional(record['split_offsets'], longsOf))
  writeList(avro, optional(record['equality_ids'], longsOf))
  writeInt(avro, optional(record['sort_order_id'], longOf))
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
  return listOf(datum).map((item) => {
    const pair = recordOf(item)
    return [requireNumber(pair, 'key'), pair['value'] ?? null]
  })
}

function optional<T>(datum: Datum | undefined, read: (datum: Datum) => T): T | null {
  return datum === undefined || datum === null ? null : read(datum)
}

function listOf(datum: Datum): readonly Datum[] {
  if (!Array.isArray(datum)) throw malformed('a list of a file is none')
  return datum as readonly Datum[]
}

function longsOf(datum: Datum): readonly Long[] {
  return listOf(datum).map(longOf)
}

function longOf(datum: Datum): Long {
  if (typeof datum !== 'number' && typeof datum !== 'bigint') throw malformed('a metric that is no long')
  if (typeof datum === 'number' && !Number.isSafeInteger(datum)) throw malformed('a metric that is no long')
  return datum
}

function bytesOf(datum: Datum): Uint8Array {
  if (!(datum instanceof Uint8Array)) throw malformed('a metric that is no bytes')
  return datum
}
