export { LocalObjectStore, type LocalObjectStoreOptions } from './local/local-object-store.ts'
export { MemoryObjectStore, type MemoryObjectStoreOptions } from './memory-object-store.ts'
export { ObjectStores } from './object-stores.ts'
export { fileUriToPath, pathToFileUri, schemeOf } from './uri.ts'
