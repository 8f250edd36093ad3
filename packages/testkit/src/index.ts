export { withPostgres, type TestDatabase, type TestPostgres } from './postgres.ts'
export { emptyBatch, MemoryTableStorage } from './memory-table-storage.ts'
