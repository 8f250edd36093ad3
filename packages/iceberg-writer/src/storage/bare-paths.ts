import type { ByteRange, ObjectBytes, ObjectMeta, ObjectStore } from '@moonlink/core'

/** A store that takes a bare absolute path for a `file:` URI, as Spark's hadoop catalog writes it where its warehouse is given so. */
export function acceptingBarePaths(store: ObjectStore): ObjectStore {
  const uriOf = (path: string) => (path.startsWith('/') ? `file://${path}` : path)
  return {
    get: (uri: string, range?: ByteRange, signal?: AbortSignal): Promise<Uint8Array> => store.get(uriOf(uri), range, signal),
    head: (uri: string): Promise<ObjectMeta | null> => store.head(uriOf(uri)),
    put: (uri: string, bytes: ObjectBytes): Promise<void> => store.put(uriOf(uri), bytes),
    putIfAbsent: (uri: string, bytes: Uint8Array): Promise<'created' | 'exists'> => store.putIfAbsent(uriOf(uri), bytes),
    list: (prefix: string): AsyncIterable<ObjectMeta> => store.list(uriOf(prefix)),
    delete: (uri: string): Promise<void> => store.delete(uriOf(uri)),
  }
}
