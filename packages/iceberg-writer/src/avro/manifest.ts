import { stringifyJsonLossless, type JsonObject } from '@moonlink/core'
import { malformed, type DatumRecord } from './avro-reader.ts'
import type { AvroWriter } from './avro-writer.ts'
import { numberOf } from '../metadata/fields.ts'
import { ContainerWriter, readContainer } from './container.ts'
import { icebergSchema, MANIFEST_ENTRY_NAMES, MANIFEST_ENTRY_SCHEMA } from './manifest-schemas.ts'
import { decodeFileStats, type EncodedStats } from './file-stats.ts'
import {
  optionalBigInt,
  optionalCount,
  optionalNumber,
  optionalString,
  recordOf,
  requireCount,
  requireNumber,
  requireString,
} from './records.ts'

const ICEBERG_SCHEMA = stringifyJsonLossless(icebergSchema(MANIFEST_ENTRY_SCHEMA))

export type ManifestContent = 'data' | 'deletes'

export const EntryStatus = { existing: 0, added: 1, deleted: 2 } as const
export type EntryStatus = (typeof EntryStatus)[keyof typeof EntryStatus]

export const FileContent = { data: 0, positionDeletes: 1, equalityDeletes: 2 } as const
export type FileContent = (typeof FileContent)[keyof typeof FileContent]

/** `data_file` of the Iceberg spec: a data file, or one deletion vector of a Puffin file. */
export interface ContentFile {
  readonly content: FileContent
  /** Absolute URI. */
  readonly path: string
  /** `PARQUET`, `PUFFIN` …; compare without regard to case. */
  readonly format: string
  readonly recordCount: number
  readonly sizeBytes: number
  /** Column metrics and what goes with them, kept in their encoded form. */
  readonly stats: EncodedStats
  readonly firstRowId: number | null
  /** Deletion vectors: the data file, exactly as its own entry names it. */
  readonly referencedDataFile: string | null
  readonly contentOffset: number | null
  readonly contentSizeBytes: number | null
}

/** `manifest_entry`. Numbers that an ADDED entry inherits are null until the manifest is in a list. */
export interface ManifestEntry {
  readonly status: EntryStatus
  readonly snapshotId: bigint | null
  /** Data sequence number. */
  readonly sequenceNumber: number | null
  readonly fileSequenceNumber: number | null
  readonly file: ContentFile
}

export interface ManifestHeader {
  readonly content: ManifestContent
  /** Iceberg schema JSON, its `schema-id` in it. */
  readonly schema: JsonObject
  readonly partitionSpecId: number
}

/** Encodes a manifest of an unpartitioned table (Avro, deflate). `sync` is 16 random bytes. */
export async function encodeManifest(header: ManifestHeader, entries: Iterable<ManifestEntry>, sync: Uint8Array): Promise<Uint8Array> {
  const metadata = {
    schema: stringifyJsonLossless(header.schema),
    'schema-id': String(numberOf(header.schema, 'schema-id')),
    'iceberg.schema': ICEBERG_SCHEMA,
    'partition-spec': '[]',
    'partition-spec-id': String(header.partitionSpecId),
    'format-version': '3',
    content: header.content,
  }
  const writer = new ContainerWriter(MANIFEST_ENTRY_SCHEMA, metadata, sync)
  for (const entry of entries) await writer.append((avro) => writeEntry(avro, entry))
  return writer.finish()
}

function writeEntry(avro: AvroWriter, entry: ManifestEntry): void {
  avro.long(entry.status)
  avro.optionalLong(entry.snapshotId)
  avro.optionalLong(entry.sequenceNumber)
  avro.optionalLong(entry.fileSequenceNumber)
  const { file } = entry
  avro.long(file.content)
  avro.string(file.path)
  avro.string(file.format)
  avro.long(file.recordCount)
  avro.long(file.sizeBytes)
  avro.raw(file.stats)
  avro.optionalLong(file.firstRowId)
  if (avro.optional(file.referencedDataFile)) avro.string(file.referencedDataFile)
  avro.optionalLong(file.contentOffset)
  avro.optionalLong(file.contentSizeBytes)
}

export interface DecodedManifest {
  readonly content: ManifestContent
  /** In the order of the file; null numbers are not resolved. */
  readonly entries: readonly ManifestEntry[]
}

/** Decodes a manifest of any writer, DELETED entries included. Throws `corrupt`/`AVRO_MALFORMED`. */
export async function decodeManifest(bytes: Uint8Array): Promise<DecodedManifest> {
  const { metadata, records } = await readContainer(bytes, MANIFEST_ENTRY_NAMES)
  return { content: metadata['content'] === 'deletes' ? 'deletes' : 'data', entries: records.map(readEntry) }
}

function readEntry(record: DatumRecord): ManifestEntry {
  const status = requireNumber(record, 'status')
  if (status !== 0 && status !== 1 && status !== 2) throw malformed(`manifest entry status ${status}`)
  return {
    status,
    snapshotId: optionalBigInt(record, 'snapshot_id'),
    sequenceNumber: optionalNumber(record, 'sequence_number'),
    fileSequenceNumber: optionalNumber(record, 'file_sequence_number'),
    file: readContentFile(recordOf(record['data_file'])),
  }
}

function readContentFile(record: DatumRecord): ContentFile {
  const content = optionalNumber(record, 'content') ?? 0
  if (content !== 0 && content !== 1 && content !== 2) throw malformed(`file content ${content}`)
  return {
    content,
    path: requireString(record, 'file_path'),
    format: requireString(record, 'file_format'),
    recordCount: requireCount(record, 'record_count'),
    sizeBytes: requireCount(record, 'file_size_in_bytes'),
    stats: decodeFileStats(record),
    firstRowId: optionalCount(record, 'first_row_id'),
    referencedDataFile: optionalString(record, 'referenced_data_file'),
    contentOffset: optionalCount(record, 'content_offset'),
    contentSizeBytes: optionalCount(record, 'content_size_in_bytes'),
  }
}
