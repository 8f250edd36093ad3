export { LocalObjectStore, type LocalObjectStoreOptions } from './local/local-object-store.ts'
export { MemoryObjectStore, type MemoryObjectStoreOptions } from './memory-object-store.ts'
export { ObjectStores } from './object-stores.ts'
export { fileUriToPath, pathToFileUri, schemeOf } from './uri.ts'
export { checkConditionalPut } from './conditional-put.ts'
export { S3ObjectStore } from './s3/s3-object-store.ts'
export type { S3Credentials, S3ObjectStoreOptions } from './s3/s3-options.ts'
export {
  seededFaults,
  type Fate,
  type Fault,
  type FaultPlan,
  type SeededFaultOptions,
  type StoreCall,
  type StoreOperation,
} from './faulty/fault-plan.ts'
export { FaultyObjectStore, type FaultyObjectStoreOptions } from './faulty/faulty-object-store.ts'
export { LocalFileCache, type LocalFileCacheOptions } from './cache/local-file-cache.ts'
