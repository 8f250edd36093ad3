import type { LocalFiles, ObjectStore } from '@moonlink/core'
import { fileUriToPath, LocalObjectStore, ObjectStores } from '@moonlink/object-store'
import type { Config } from '../config/schema.ts'

export interface OpenedStores {
  readonly store: ObjectStore
  readonly localFiles: LocalFiles
}

/** The object stores of the configuration, and their objects as local files. */
export function openStores(_config: Config): OpenedStores {
  const store = new ObjectStores({ file: new LocalObjectStore() })
  return { store, localFiles: { pin: async (uri) => ({ path: fileUriToPath(uri), release: () => undefined }) } }
}
