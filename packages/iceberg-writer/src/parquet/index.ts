export { ParquetWorkerPool, type ParquetWorkerPoolOptions } from './worker-pool.ts'
