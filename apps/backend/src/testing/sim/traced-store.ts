import type { Logger, ObjectStore } from '@moonlink/core'

/** A store that says what is done to it, as that happens. */
export function tracedStore(store: ObjectStore, logger: Logger): ObjectStore {
  const say = (operation: string, uri: string) => logger.debug(`${operation} ${uri}`)
  return {
    get: (uri, range) => store.get(uri, range),
    head: (uri) => store.head(uri),
    list: (prefix) => store.list(prefix),
    put: (uri, bytes) => {
      say('put', uri)
      return store.put(uri, bytes)
    },
    putIfAbsent: async (uri, bytes) => {
      const outcome = await store.putIfAbsent(uri, bytes)
      say(`putIfAbsent (${outcome})`, uri)
      return outcome
    },
    delete: (uri) => {
      say('delete', uri)
      return store.delete(uri)
    },
  }
}
