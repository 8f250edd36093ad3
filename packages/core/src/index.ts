export { formatLsn, maxLsn, minLsn, parseLsn, type Lsn } from './lsn.ts'
export { exactRanges, type ExactRange, type StampedCommit } from './exact-range.ts'
export { assert, isMoonlinkError, MoonlinkError, type ErrorDetails, type ErrorKind } from './errors.ts'
export { isJsonObject, parseJsonLossless, stringifyJsonLossless } from './json.ts'
export {
  childTypes,
  fixedWidth,
  formatType,
  hasVariant,
  plainKinds,
  typesEqual,
  type Field,
  type FieldType,
  type ListType,
  type PrimitiveType,
  type StructType,
  type TableSchema,
} from './types.ts'
export { canonicalTableName, formatTableName, parseTableName, type TableName } from './table-name.ts'
export { ByteSink } from './byte-sink.ts'
export { COPY_SLACK_BYTES, copyShort, SHORT_COPY_BYTES } from './copy-short.ts'
export { VariantEncoder } from './variant/variant-encoder.ts'
export { VariantDecoder } from './variant/variant-decoder.ts'
export { jsonbFitsVariant } from './variant/jsonb-fits.ts'
export { PlaceBuffer, type Place, type SegmentId } from './place.ts'
export {
  batchByteSize,
  bigInt64View,
  bitAt,
  columnByteSize,
  float32View,
  float64View,
  int32View,
  isValid,
  type Column,
  type ColumnBatch,
} from './columns/column.ts'
export { ColumnBuilder, type BuilderOptions, type RunTarget } from './columns/column-builder.ts'
export { BatchBuilder, gatherBatch, selectFields, sliceBatch } from './columns/batch-builder.ts'
export { isDefaultable } from './columns/defaultable.ts'
export { evolveSchema } from './columns/evolve-schema.ts'
export { conformBatch, constantColumn, defaultColumn, isPromotion, promoteColumn, promoteField } from './columns/conform.ts'
export type { Value } from './columns/value.ts'
export { appendValue, cellsEqual, valueAt } from './columns/values.ts'
export { ChangeOp, type ChangeBatch, type CommitMarks, type SourceEvent, type TableShape, type UnchangedCells } from './change.ts'
export { steadyTime, systemClock, type Clock } from './ports/clock.ts'
export type { FileGroup, FileLedger } from './ports/file-ledger.ts'
export { systemDisk, type DiskFile, type DiskSpace, type LocalDisk, type OpenMode } from './ports/local-disk.ts'
export { randomUuid, systemRandom, type Random } from './ports/random.ts'
export { silentLogger, type Logger } from './ports/logger.ts'
export { silentTelemetry, type Labels, type Telemetry } from './ports/telemetry.ts'
export { byteLength, joinBytes, type ByteRange, type ObjectBytes, type ObjectMeta, type ObjectStore } from './ports/object-store.ts'
export type { Catalog, CreateTable, JsonObject, JsonValue, LoadedTable, TableIdentifier } from './ports/catalog.ts'
export type {
  DataFile,
  DataFileWriter,
  DeletionVector,
  ExpirePolicy,
  ExpireResult,
  KeptLineage,
  RetainedSnapshot,
  RowsToWrite,
  ScannedBatch,
  StagedFile,
  TableCommit,
  TableSnapshot,
  TableStorage,
  TimelineLsn,
} from './ports/table-storage.ts'
export type { FileObject, LocalFiles, LocalFileSets, PinnedFile, PinOptions, TextCopies } from './ports/local-files.ts'
export type {
  ChangeSource,
  ChangeStream,
  CopiedTable,
  CopyRange,
  CopyReadOptions,
  ResumePoint,
  SourceTable,
  TableCopy,
  TakeCopied,
} from './ports/change-source.ts'
export type { ChangeLog, LogEntry, LogRange, LogStatus } from './ports/change-log.ts'
export type { AcquireOptions, Lease, LeaseHolder, LeasePlace } from './ports/lease.ts'
