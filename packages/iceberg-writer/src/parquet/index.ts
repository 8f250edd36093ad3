export { VariantTextCopies, type VariantTextCopiesOptions } from './variant-text-copies.ts'
export { ParquetWorkerPool, type ParquetWorkerPoolOptions } from './worker-pool.ts'
