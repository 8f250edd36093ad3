import { describeObjectStore } from '@moonlink/testkit'
import { expect, test } from 'vitest'
import { MemoryObjectStore } from './memory-object-store.ts'
import { ObjectStores } from './object-stores.ts'

describeObjectStore('ObjectStores', async () => ({ store: new ObjectStores({ memory: new MemoryObjectStore() }), root: 'memory://a/' }))

test('each URI goes to the store of its scheme, whatever the case', async () => {
  const [a, b] = [new MemoryObjectStore(), new MemoryObjectStore()]
  const stores = new ObjectStores({ a, b })
  await stores.put('A://x', Uint8Array.of(1))
  await stores.put('b://x', Uint8Array.of(2))
  expect(await a.head('A://x')).not.toBeNull()
  expect(await b.head('b://x')).not.toBeNull()
})

test('an unknown scheme is named, with those there are', async () => {
  const stores = new ObjectStores({ file: new MemoryObjectStore(), s3: new MemoryObjectStore() })
  await expect(stores.get('gs://bucket/x')).rejects.toMatchObject({
    kind: 'invalid',
    code: 'SCHEME_UNKNOWN',
    message: expect.stringContaining('file:, s3:'),
  })
  await expect(stores.get('/no/scheme')).rejects.toMatchObject({ code: 'URI_MALFORMED' })
  expect(() => stores.list('gs://bucket/')).not.toThrow()
  await expect(stores.list('gs://bucket/').next()).rejects.toMatchObject({ code: 'SCHEME_UNKNOWN' })
})
