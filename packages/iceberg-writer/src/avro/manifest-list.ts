import { stringifyJsonLossless } from '@moonlink/core'
import { malformed, type Datum, type DatumRecord } from './avro-reader.ts'
import type { AvroWriter } from './avro-writer.ts'
import { ContainerWriter, readContainer } from './container.ts'
import type { ManifestContent } from './manifest.ts'
import { icebergSchema, MANIFEST_FILE_NAMES, MANIFEST_FILE_SCHEMA } from './manifest-schemas.ts'
import { optionalCount, optionalNumber, requireBigInt, requireNumber, requireString } from './records.ts'

const ICEBERG_SCHEMA = stringifyJsonLossless(icebergSchema(MANIFEST_FILE_SCHEMA))

/** `manifest_file`: one manifest as its list describes it. */
export interface ManifestFile {
  /** Absolute URI. */
  readonly path: string
  readonly length: number
  readonly partitionSpecId: number
  readonly content: ManifestContent
  readonly sequenceNumber: number
  /** Least data sequence number of the live entries. */
  readonly minSequenceNumber: number
  readonly addedSnapshotId: bigint
  readonly addedFilesCount: number
  readonly existingFilesCount: number
  readonly deletedFilesCount: number
  readonly addedRowsCount: number
  readonly existingRowsCount: number
  readonly deletedRowsCount: number
  /** First `_row_id` of the files without one; null for manifests of deletes. */
  readonly firstRowId: number | null
}

export interface ManifestListHeader {
  readonly snapshotId: bigint
  readonly parentSnapshotId: bigint | null
  readonly sequenceNumber: number
  readonly firstRowId: number
}

/** Encodes a manifest list of an unpartitioned table (Avro, deflate). `sync` is 16 random bytes. */
export async function encodeManifestList(
  header: ManifestListHeader,
  manifests: readonly ManifestFile[],
  sync: Uint8Array,
): Promise<Uint8Array> {
  const metadata = {
    'snapshot-id': String(header.snapshotId),
    'parent-snapshot-id': String(header.parentSnapshotId ?? 'null'),
    'sequence-number': String(header.sequenceNumber),
    'first-row-id': String(header.firstRowId),
    'format-version': '3',
    'iceberg.schema': ICEBERG_SCHEMA,
  }
  const writer = new ContainerWriter(MANIFEST_FILE_SCHEMA, metadata, sync)
  for (const manifest of manifests) await writer.append((avro) => writeManifestFile(avro, manifest))
  return writer.finish()
}

function writeManifestFile(avro: AvroWriter, manifest: ManifestFile): void {
  avro.string(manifest.path)
  avro.long(manifest.length)
  avro.long(manifest.partitionSpecId)
  avro.long(manifest.content === 'data' ? 0 : 1)
  avro.long(manifest.sequenceNumber)
  avro.long(manifest.minSequenceNumber)
  avro.long(manifest.addedSnapshotId)
  avro.long(manifest.addedFilesCount)
  avro.long(manifest.existingFilesCount)
  avro.long(manifest.deletedFilesCount)
  avro.long(manifest.addedRowsCount)
  avro.long(manifest.existingRowsCount)
  avro.long(manifest.deletedRowsCount)
  // An unpartitioned table's summaries are an empty list, as Java writes it.
  avro.long(1)
  avro.long(0)
  avro.long(0)
  avro.optionalLong(manifest.firstRowId)
}

/** Decodes a manifest list of any writer. Throws `corrupt`/`AVRO_MALFORMED`. */
export async function decodeManifestList(bytes: Uint8Array): Promise<readonly ManifestFile[]> {
  const { records } = await readContainer(bytes, MANIFEST_FILE_NAMES)
  return records.map(readManifestFile)
}

function readManifestFile(record: DatumRecord): ManifestFile {
  const content: Datum = record['content'] ?? 0
  if (content !== 0 && content !== 1) throw malformed('manifest content is neither data nor deletes')
  return {
    path: requireString(record, 'manifest_path'),
    length: requireNumber(record, 'manifest_length'),
    partitionSpecId: requireNumber(record, 'partition_spec_id'),
    content: content === 0 ? 'data' : 'deletes',
    sequenceNumber: optionalNumber(record, 'sequence_number') ?? 0,
    minSequenceNumber: optionalNumber(record, 'min_sequence_number') ?? 0,
    addedSnapshotId: requireBigInt(record, 'added_snapshot_id'),
    addedFilesCount: optionalNumber(record, 'added_files_count') ?? 0,
    existingFilesCount: optionalNumber(record, 'existing_files_count') ?? 0,
    deletedFilesCount: optionalNumber(record, 'deleted_files_count') ?? 0,
    addedRowsCount: optionalNumber(record, 'added_rows_count') ?? 0,
    existingRowsCount: optionalNumber(record, 'existing_rows_count') ?? 0,
    deletedRowsCount: optionalNumber(record, 'deleted_rows_count') ?? 0,
    firstRowId: optionalCount(record, 'first_row_id'),
  }
}
