import type { ObjectMeta, ObjectStore } from '@moonlink/core'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

/** A store to put through the suite. */
export interface ObjectStoreUnderTest {
  readonly store: ObjectStore
  /** Absolute URI that ends with `/`; nothing is below it yet, and nobody else writes there. */
  readonly root: string
  close?(): Promise<void>
}

const text = (value: string) => new TextEncoder().encode(value)
const notFound = expect.objectContaining({ kind: 'invalid', code: 'OBJECT_NOT_FOUND' })

/** Names that a careless mapping of URIs to names confuses with one another, or drops. */
const AWKWARD_NAMES = [
  'with space',
  'with%20escape',
  'percent%',
  'plus+and&=',
  'question?mark',
  'hash#mark',
  'ünïcödé-表-🌙',
  'quote\'and"',
  'a=1/b=%2F',
  '.hidden',
  '_under',
  'colon:semi;comma,at@(x)[y]{z}~!$*',
]

/** What core's `ObjectStore` port promises, as tests. `factory` is called once. */
export function describeObjectStore(name: string, factory: () => Promise<ObjectStoreUnderTest>): void {
  describe(`${name}: the ObjectStore contract`, () => {
    let subject: ObjectStoreUnderTest
    beforeAll(async () => {
      subject = await factory()
    })
    afterAll(async () => {
      await subject.close?.()
    })
    const target = (path: string) => ({ store: subject.store, uri: subject.root + path })

    describeObjects(target)
    describeRanges(target)
    describeConditionalPut(target)
    describeLists(target)

    test('agrees with a map over any sequence of calls', async () => {
      let round = 0
      await fc.assert(
        fc.asyncProperty(fc.array(call, { maxLength: 12 }), (calls) => agreesWithMap(target(`model/${round++}/`), calls)),
        {
          numRuns: 12,
        },
      )
    })
  })
}

type Target = (path: string) => { readonly store: ObjectStore; readonly uri: string }

function describeObjects(target: Target): void {
  test('get gives what was put; a second put replaces it', async () => {
    const { store, uri } = target('objects/deep/er/a.bin')
    await store.put(uri, text('one'))
    expect(await store.get(uri)).toEqual(text('one'))
    await store.put(uri, text('another'))
    expect(await store.get(uri)).toEqual(text('another'))
    expect(await store.head(uri)).toMatchObject({ uri, size: 7 })
  })

  test('an empty object is an object', async () => {
    const { store, uri } = target('objects/empty')
    await store.put(uri, new Uint8Array())
    expect(await store.get(uri)).toEqual(new Uint8Array())
    expect(await store.head(uri)).toMatchObject({ size: 0 })
  })

  test('an object may be given in pieces, empty ones too', async () => {
    const { store, uri } = target('objects/pieces')
    await store.put(uri, [text('one'), new Uint8Array(), text(' and '), text('another')])
    expect(await store.get(uri)).toEqual(text('one and another'))
    await store.put(uri, [])
    expect(await store.get(uri)).toEqual(new Uint8Array())
  })

  test("bytes survive; those given and those got are the caller's, who may overwrite them", async () => {
    const { store, uri } = target('objects/bytes')
    const pool = Uint8Array.from({ length: 300_000 }, (_, index) => (index * 7919) >> 3)
    const bytes = pool.subarray(1000, 299_000)
    const expected = bytes.slice()
    await store.put(uri, bytes)
    pool.fill(0)
    const first = await store.get(uri)
    expect(Buffer.compare(first, expected), 'what was put shares no bytes with it').toBe(0)
    first.fill(0)
    expect(Buffer.compare(await store.get(uri), expected), 'what was got before shares no bytes with it').toBe(0)
  })

  test('head gives null and get fails where there is nothing', async () => {
    const { store, uri } = target('objects/missing')
    expect(await store.head(uri)).toBeNull()
    await expect(store.get(uri)).rejects.toEqual(notFound)
    await expect(store.get(uri, { offset: 1, length: 2 })).rejects.toEqual(notFound)
    await expect(store.get(uri, { offset: null, length: 2 })).rejects.toEqual(notFound)
  })

  test('a directory is not an object', async () => {
    const { store, uri } = target('objects/directory')
    await store.put(`${uri}/inside`, text('x'))
    expect(await store.head(uri)).toBeNull()
    await expect(store.get(uri)).rejects.toEqual(notFound)
    await store.delete(uri)
    expect(await store.get(`${uri}/inside`)).toEqual(text('x'))
  })

  test('delete removes, and is fine where there is nothing', async () => {
    const { store, uri } = target('objects/to-delete')
    await store.put(uri, text('x'))
    await store.delete(uri)
    await store.delete(uri)
    await store.delete(`${uri}/never/was`)
    expect(await store.head(uri)).toBeNull()
  })

  test('the time is that of the put', async () => {
    const { store, uri } = target('objects/time')
    await store.put(uri, text('x'))
    const meta = await store.head(uri)
    expect(meta!.modifiedMs).toBeGreaterThan(Date.UTC(2020, 0))
    expect(Number.isFinite(meta!.modifiedMs)).toBe(true)
  })

  test('an aborted get rejects with the reason', async () => {
    const { store, uri } = target('objects/abort')
    await store.put(uri, text('x'))
    const reason = new Error('no longer wanted')
    await expect(store.get(uri, undefined, AbortSignal.abort(reason))).rejects.toBe(reason)
  })

  test('puts of one name at once leave one of them, whole', async () => {
    const { store, uri } = target('objects/contended')
    const values = Array.from({ length: 6 }, (_, index) => new Uint8Array(50_000).fill(index))
    await Promise.all(values.map((value) => store.put(uri, value)))
    const left = await store.get(uri)
    expect(left.length).toBe(50_000)
    expect(left.every((byte) => byte === left[0])).toBe(true)
  })

  test.each(AWKWARD_NAMES)('the name "%s" is kept as it is', async (name) => {
    const { store, uri } = target(`names/${name}/${name}`)
    await store.put(uri, text(name))
    expect(await store.get(uri)).toEqual(text(name))
    expect(await urisOf(store, target(`names/${name}/`).uri)).toEqual([uri])
    expect((await store.head(uri))?.uri).toBe(uri)
  })
}

function describeRanges(target: Target): void {
  const ranges = [
    { offset: 0, length: 4, gives: '0123' },
    { offset: 3, length: 1, gives: '3' },
    { offset: 8, length: 100, gives: '89' },
    { offset: 10, length: 1, gives: '' },
    { offset: 5_000, length: 10, gives: '' },
    { offset: 2, length: 0, gives: '' },
    { offset: null, length: 3, gives: '789' },
    { offset: null, length: 100, gives: '0123456789' },
    { offset: null, length: 0, gives: '' },
  ]
  test.each(ranges)('range $offset + $length of ten bytes gives "$gives"', async ({ offset, length, gives }) => {
    const { store, uri } = target('ranges/ten')
    await store.put(uri, text('0123456789'))
    expect(await store.get(uri, { offset, length })).toEqual(text(gives))
  })

  test('ranges of an empty object are empty', async () => {
    const { store, uri } = target('ranges/none')
    await store.put(uri, new Uint8Array())
    expect(await store.get(uri, { offset: 0, length: 5 })).toEqual(new Uint8Array())
    expect(await store.get(uri, { offset: null, length: 5 })).toEqual(new Uint8Array())
  })
}

function describeConditionalPut(target: Target): void {
  test('putIfAbsent creates once and then leaves the object alone', async () => {
    const { store, uri } = target('conditional/once')
    expect(await store.putIfAbsent(uri, text('first'))).toBe('created')
    expect(await store.putIfAbsent(uri, text('second'))).toBe('exists')
    expect(await store.get(uri)).toEqual(text('first'))
  })

  test('putIfAbsent of the very bytes that are there is still "exists"', async () => {
    const { store, uri } = target('conditional/same')
    await store.put(uri, text('same'))
    expect(await store.putIfAbsent(uri, text('same'))).toBe('exists')
  })

  test('a deleted name can be created again', async () => {
    const { store, uri } = target('conditional/again')
    await store.putIfAbsent(uri, text('first'))
    await store.delete(uri)
    expect(await store.putIfAbsent(uri, text('second'))).toBe('created')
    expect(await store.get(uri)).toEqual(text('second'))
  })

  test('of many at once exactly one creates, and its bytes stay', async () => {
    for (let round = 0; round < 3; round++) {
      const { store, uri } = target(`conditional/race-${round}/version`)
      const outcomes = await Promise.all(Array.from({ length: 12 }, (_, index) => store.putIfAbsent(uri, text(`caller ${index}`))))
      expect(outcomes.filter((outcome) => outcome === 'created')).toHaveLength(1)
      expect(await store.get(uri)).toEqual(text(`caller ${outcomes.indexOf('created')}`))
    }
  })
}

function describeLists(target: Target): void {
  test('list gives every object below a prefix, at any depth, and nothing else', async () => {
    const { store, uri } = target('lists/')
    const names = ['t/a', 't/b/c', 't/b/d/e', 't2/f', 'u']
    for (const name of names) await store.put(uri + name, text(name))
    const below = (...expected: string[]) => expected.map((name) => uri + name)
    expect(await urisOf(store, uri)).toEqual(below(...names))
    expect(await urisOf(store, `${uri}t/`)).toEqual(below('t/a', 't/b/c', 't/b/d/e'))
    expect(await urisOf(store, `${uri}t`)).toEqual(below('t/a', 't/b/c', 't/b/d/e', 't2/f'))
    expect(await urisOf(store, `${uri}t/b/d/e`)).toEqual(below('t/b/d/e'))
    expect(await urisOf(store, `${uri}t/x`)).toEqual([])
    expect(await urisOf(store, `${uri}nothing/here/`)).toEqual([])
  })

  test('list gives sizes and times', async () => {
    const { store, uri } = target('lists-meta/')
    await store.put(`${uri}a`, text('12345'))
    const [listed] = await all(store.list(uri))
    const head = await store.head(`${uri}a`)
    expect(listed).toMatchObject({ uri: `${uri}a`, size: 5 })
    // Stores keep list and head times with different precision.
    expect(Math.abs(listed.modifiedMs - head!.modifiedMs)).toBeLessThan(2000)
  })

  test('what was deleted is not listed', async () => {
    const { store, uri } = target('lists-deleted/')
    await store.put(`${uri}a`, text('a'))
    await store.put(`${uri}b`, text('b'))
    await store.delete(`${uri}a`)
    expect(await urisOf(store, uri)).toEqual([`${uri}b`])
  })
}

type Call =
  | { readonly kind: 'put' | 'putIfAbsent'; readonly name: string; readonly bytes: Uint8Array }
  | { readonly kind: 'get' | 'delete'; readonly name: string }

const objectName = fc.constantFrom('a', 'b', 'c/a', 'c/b', 'c d/%')
const call: fc.Arbitrary<Call> = fc.oneof(
  fc.record({ kind: fc.constantFrom('put', 'putIfAbsent'), name: objectName, bytes: fc.uint8Array({ maxLength: 20 }) }),
  fc.record({ kind: fc.constantFrom('get', 'delete'), name: objectName }),
)

async function agreesWithMap({ store, uri }: { store: ObjectStore; uri: string }, calls: readonly Call[]): Promise<void> {
  const model = new Map<string, Uint8Array>()
  for (const one of calls) {
    const object = uri + one.name
    const known = model.get(one.name)
    if (one.kind === 'put') await store.put(object, one.bytes)
    else if (one.kind === 'putIfAbsent') expect(await store.putIfAbsent(object, one.bytes)).toBe(known ? 'exists' : 'created')
    else if (one.kind === 'delete') await store.delete(object)
    else if (known) expect(await store.get(object)).toEqual(known)
    else await expect(store.get(object)).rejects.toEqual(notFound)

    if (one.kind === 'put' || (one.kind === 'putIfAbsent' && !known)) model.set(one.name, one.bytes)
    if (one.kind === 'delete') model.delete(one.name)
  }
  expect(await urisOf(store, uri)).toEqual([...model.keys()].sort().map((name) => uri + name))
}

async function all(list: AsyncIterable<ObjectMeta>): Promise<ObjectMeta[]> {
  const metas: ObjectMeta[] = []
  for await (const meta of list) metas.push(meta)
  return metas
}

async function urisOf(store: ObjectStore, prefix: string): Promise<string[]> {
  return (await all(store.list(prefix))).map((meta) => meta.uri).sort()
}
