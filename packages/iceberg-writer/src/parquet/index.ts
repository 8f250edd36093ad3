export { LAST_UPDATED_FIELD_ID, ROW_ID_FIELD_ID } from './types.ts'
export type { EncodedParquet, EncodeOptions, FileLineage, FileMetrics, ParquetCompression, ParquetSource } from './types.ts'
export { ParquetWorkerPool, type ParquetWorkerPoolOptions, type ScanRequest } from './worker-pool.ts'
