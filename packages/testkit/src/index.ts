export { withPostgres, type TestDatabase, type TestPostgres } from './postgres.ts'
export { emptyBatch, MemoryTableStorage } from './memory-table-storage.ts'
export { describeObjectStore, type ObjectStoreUnderTest } from './object-store-suite.ts'
export { describeKeyIndex, type HashesUnderTest, type KeyIndexUnderTest } from './key-index-suite.ts'
