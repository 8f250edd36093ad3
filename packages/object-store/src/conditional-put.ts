import { MoonlinkError, randomUuid, systemRandom, type ObjectStore, type Random } from '@moonlink/core'

/**
 * Tries whether the store honours the condition of `putIfAbsent`, with an object of its own below `directory` (a URI that ends with
 * `/`), which it removes again. Throws `invalid`/`STORE_UNSUPPORTED` where it does not: some S3 servers ignore the condition without a
 * word, and commits there would overwrite one another.
 */
export async function checkConditionalPut(store: ObjectStore, directory: string, random: Random = systemRandom): Promise<void> {
  const uri = `${directory}.moonlink-check-${randomUuid(random)}`
  try {
    await store.putIfAbsent(uri, Uint8Array.of(1))
    const second = await store.putIfAbsent(uri, Uint8Array.of(2))
    if (second === 'exists') return
  } finally {
    await store.delete(uri)
  }
  throw new MoonlinkError(
    'invalid',
    'STORE_UNSUPPORTED',
    `the object store of ${directory} overwrites what a conditional put must leave alone, so commits would be lost; use a store with conditional puts.`,
    { context: { directory } },
  )
}
