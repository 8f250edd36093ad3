import { isMoonlinkError } from '@moonlink/core'
import { damaged, damages, fuzzing } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import type { S3ObjectStore } from './s3-object-store.ts'
import { errorBody, startScripted, type Answer, type ScriptedServerOptions, type Trouble } from './scripted-s3.test.support.ts'

const URI = 's3://lake/t/v1'
const one = Uint8Array.of(1)
const five = Uint8Array.of(1, 2, 3, 4, 5)
const inParts = { multipartThresholdBytes: 3, partBytes: 2 }
const unavailable = { kind: 'retry', code: 'STORE_UNAVAILABLE' }

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

async function start(
  script: readonly Trouble[] | ((request: { method: string; url: URL }) => Trouble),
  options: ScriptedServerOptions = {},
) {
  const started = await startScripted(script, { timeoutMs: 200, maxAttempts: 3, ...options })
  closing.push(() => started.close())
  return started
}

const changed = (change: (answer: Answer) => Answer): Trouble => ({ change })
const withBody = (body: string | Buffer) => changed((answer) => ({ ...answer, body: Buffer.from(body) }))
const withHeaders = (headers: Record<string, string>) => changed((answer) => ({ ...answer, headers: { ...answer.headers, ...headers } }))
const without = (header: string) =>
  changed(({ headers, ...answer }) => ({
    ...answer,
    headers: Object.fromEntries(Object.entries(headers).filter(([name]) => name !== header)),
  }))
const always = (trouble: Trouble) => () => trouble
async function listed(store: S3ObjectStore): Promise<string[]> {
  const uris: string[] = []
  for await (const { uri } of store.list('s3://lake/t/')) uris.push(uri)
  return uris
}

describe('get', () => {
  const whole = Buffer.from(five)
  const broken: readonly (readonly [string, Trouble])[] = [
    [
      'a body that breaks off',
      changed((answer) => ({ ...answer, body: answer.body.subarray(0, 2), headers: { 'content-length': '5' }, end: 'broken' })),
    ],
    [
      'a body without a length that breaks off',
      changed((answer) => ({ ...answer, headers: { 'transfer-encoding': 'chunked', 'content-length': '' }, end: 'broken' })),
    ],
    [
      'a body that stops',
      changed((answer) => ({ ...answer, body: answer.body.subarray(0, 2), headers: { 'content-length': '5' }, end: 'silent' })),
    ],
    ['a page of a proxy', changed(() => ({ status: 502, headers: {}, body: Buffer.from('<html><body>Bad Gateway</body>') }))],
    ['an error that is none', changed(() => ({ status: 500, headers: {}, body: Buffer.from('\u0000\u0001<<<') }))],
  ]
  test.each(broken)('%s is tried again, then said', async (_, trouble) => {
    const some = await start([trouble])
    some.putByOther(five)
    expect(await some.store.get(URI)).toEqual(five)
    const endless = await start(always(trouble))
    endless.putByOther(five)
    await expect(endless.store.get(URI)).rejects.toMatchObject(unavailable)
    expect(endless.lines).toHaveLength(3)
  })

  test('a range of a store that sends the whole object is taken from it', async () => {
    const all = changed((answer) => ({ ...answer, status: 200, headers: {}, body: whole }))
    const { putByOther, store } = await start(always(all))
    putByOther(five)
    expect(await store.get(URI, { offset: 1, length: 2 })).toEqual(Uint8Array.of(2, 3))
    expect(await store.get(URI, { offset: null, length: 2 })).toEqual(Uint8Array.of(4, 5))
    expect(await store.get(URI, { offset: 4, length: 9 })).toEqual(Uint8Array.of(5))
    expect(await store.get(URI, { offset: 9, length: 9 })).toEqual(new Uint8Array())
  })

  const otherRanges: readonly (readonly [string, Trouble])[] = [
    ['another range', changed((answer) => ({ ...answer, headers: { 'content-range': 'bytes 0-1/5' }, body: whole.subarray(0, 2) }))],
    ['a range that is none', withHeaders({ 'content-range': 'bytes a-b/c' })],
    ['a range of another length than it says', changed((answer) => ({ ...answer, body: whole }))],
  ]
  test.each(otherRanges)('%s than was asked for is not taken', async (_, trouble) => {
    const { putByOther, store } = await start(always(trouble))
    putByOther(five)
    await expect(store.get(URI, { offset: 2, length: 2 })).rejects.toMatchObject(unavailable)
  })
})

describe('head', () => {
  test('an answer without a length is not an empty object', async () => {
    const { putByOther, store } = await start(always(withHeaders({ 'content-length': 'none' })))
    putByOther(five)
    await expect(store.head(URI)).rejects.toMatchObject(unavailable)
  })
})

describe('put', () => {
  test('what carries an error in its body after all is tried again', async () => {
    const { bytes, store } = await start([{ change: (answer) => ({ ...answer, body: Buffer.from(errorBody('InternalError')) }) }])
    expect(await store.putIfAbsent(URI, one)).toBe('created')
    expect(bytes()).toEqual(Buffer.from(one))
  })

  const notCompleted: readonly (readonly [string, string])[] = [
    ['an error', errorBody('InternalError')],
    ['an error and a line end', `${errorBody('InternalError')}\n`],
    ['nothing', ''],
    ['white space that keeps the connection', '   \n  \n'],
    ['no XML', 'completed'],
    ['another answer', '<html><body>Welcome</body></html>'],
  ]
  test.each(notCompleted)('an upload in parts whose last answer is 200 with %s is not taken for done', async (_, body) => {
    const isLast = ({ method, url }: { method: string; url: URL }) => method === 'POST' && url.searchParams.has('uploadId')
    const undone: Trouble = { answer: { status: 200, headers: {}, body: Buffer.from(body) } }
    let asked = 0
    const undoneOnce = await start((request) => (isLast(request) && asked++ === 0 ? undone : 'none'), inParts)
    expect(await undoneOnce.store.putIfAbsent(URI, five)).toBe('created')
    expect(undoneOnce.bytes()).toEqual(Buffer.from(five))
    asked = 0
    const doneOnce = await start((request) => (isLast(request) && asked++ === 0 ? withBody(body) : 'none'), inParts)
    expect(await doneOnce.store.putIfAbsent(URI, five)).toBe('created')
    const never = await start((request) => (isLast(request) ? undone : 'none'), inParts)
    await expect(never.store.putIfAbsent(URI, five)).rejects.toMatchObject(unavailable)
  })

  test.each([
    ['an error', errorBody('InternalError')],
    ['an error and a line end', `${errorBody('InternalError')}\n`],
    ['a page of a proxy', '<html><body>Sign in</body></html>'],
  ])('an object whose put is answered 200 with %s is not taken for written', async (_, body) => {
    const undone: Trouble = { answer: { status: 200, headers: {}, body: Buffer.from(body) } }
    const once = await start([undone])
    await once.store.put(URI, five)
    expect(once.bytes()).toEqual(Buffer.from(five))
    const never = await start(({ method }) => (method === 'PUT' ? undone : 'none'))
    await expect(never.store.put(URI, five)).rejects.toMatchObject(unavailable)
    await expect(never.store.putIfAbsent(URI, five)).rejects.toMatchObject(unavailable)
  })

  test('a store that never says an ETag is believed where the object is there', async () => {
    const { bytes, store } = await start(always(without('etag')))
    expect(await store.putIfAbsent(URI, five)).toBe('created')
    expect(await store.putIfAbsent(URI, five)).toBe('exists')
    expect(bytes()).toEqual(Buffer.from(five))
  })

  test.each([
    ['no id', '<InitiateMultipartUploadResult></InitiateMultipartUploadResult>'],
    ['nothing', ''],
    ['no XML', 'begun'],
  ])('an upload in parts whose first answer has %s is tried again, then said', async (_, body) => {
    const some = await start([withBody(body)], inParts)
    await some.store.put(URI, five)
    expect(some.bytes()).toEqual(Buffer.from(five))
    const endless = await start(always(withBody(body)), inParts)
    await expect(endless.store.put(URI, five)).rejects.toMatchObject(unavailable)
  })

  test('a part whose answer has no ETag is sent again, then said', async () => {
    const some = await start(['none', without('etag')], inParts)
    await some.store.put(URI, five)
    expect(some.bytes()).toEqual(Buffer.from(five))
    const endless = await start((request) => (request.method === 'PUT' ? without('etag') : 'none'), inParts)
    await expect(endless.store.put(URI, five)).rejects.toMatchObject(unavailable)
    expect(endless.objects.size).toBe(0)
    expect(endless.uploads.size).toBe(0)
  })
})

describe('list', () => {
  const keys = ['a', 'b', 'c', 'd', 'e']
  const all = keys.map((key) => `s3://lake/t/${key}`)
  async function filled(script: Parameters<typeof start>[0]) {
    const started = await start(script, { pageKeys: 2 })
    for (const key of keys) started.objects.set(`/lake/t/${key}`, { body: Buffer.from(key), token: undefined })
    return started
  }
  const page = (text: string) => `<ListBucketResult>${text}</ListBucketResult>`

  const wrong: readonly (readonly [string, Trouble])[] = [
    ['an error', withBody(errorBody('InternalError'))],
    ['an error and a line end', withBody(`${errorBody('InternalError')}\n`)],
    ['nothing', withBody('')],
    ['no XML', withBody('here you are')],
    ['a page of a proxy', withBody('<html><body>Sign in</body></html>')],
    ['half a page', changed((answer) => ({ ...answer, body: answer.body.subarray(0, answer.body.length / 2) }))],
    ['a page that breaks off', changed((answer) => ({ ...answer, headers: { 'content-length': '9999' }, end: 'broken' }))],
    ['a page that stops', changed((answer) => ({ ...answer, headers: { 'content-length': '9999' }, end: 'silent' }))],
    ['no way on', withBody(page('<IsTruncated>true</IsTruncated><Contents><Key>t/a</Key><Size>1</Size></Contents>'))],
    [
      'keys that nobody asked for',
      withBody(page('<IsTruncated>false</IsTruncated><Contents><Key>elsewhere/a</Key><Size>1</Size></Contents>')),
    ],
    ['a size that is none', withBody(page('<IsTruncated>false</IsTruncated><Contents><Key>t/a</Key><Size>-3</Size></Contents>'))],
  ]
  test.each(wrong)('%s is tried again, then said', async (_, trouble) => {
    const some = await filled(['none', trouble])
    expect(await listed(some.store)).toEqual(all)
    const endless = await filled(always(trouble))
    await expect(listed(endless.store)).rejects.toMatchObject(unavailable)
  })

  test('pages that come again and again end', async () => {
    const again = page(
      '<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken><Contents><Key>t/a</Key><Size>1</Size></Contents>',
    )
    const { store } = await filled(always(withBody(again)))
    await expect(listed(store)).rejects.toMatchObject(unavailable)
    let count = 0
    const others = await filled(() => withBody(again.replace('>t<', `>t${count++}<`)))
    await expect(listed(others.store)).rejects.toMatchObject(unavailable)
  })
})

test('an answer whose body is damaged is read or refused', async () => {
  let what: Parameters<typeof damaged>[1] = []
  const spoiled = changed((answer) => ({ ...answer, body: Buffer.from(damaged(answer.body, what)) }))
  const failed: Trouble = {
    change: (answer) => ({ ...answer, status: 409, body: Buffer.from(damaged(Buffer.from(errorBody('OperationAborted')), what)) }),
  }
  let trouble: Trouble = spoiled
  const { objects, store } = await start(() => trouble, { ...inParts, pageKeys: 2 })
  const calls: readonly (() => Promise<unknown>)[] = [
    () => listed(store),
    () => store.head(URI),
    () => store.put(URI, five),
    () => store.putIfAbsent(URI, five),
    () => store.delete(URI),
  ]
  await fc.assert(
    fc.asyncProperty(damages, fc.boolean(), fc.constantFrom(...calls), async (damage, isFailure, call) => {
      objects.clear()
      for (const key of ['a', 'b', 'v1']) objects.set(`/lake/t/${key}`, { body: Buffer.from(key), token: undefined })
      what = damage
      trouble = isFailure ? failed : spoiled
      try {
        const found = await call()
        for (const uri of Array.isArray(found) ? (found as string[]) : []) expect(uri).toMatch(/^s3:\/\/lake\/t\//)
      } catch (error) {
        if (!isMoonlinkError(error)) throw error
        expect(['retry', 'invalid']).toContain(error.kind)
        expect(error.message).not.toContain('\n')
      }
    }),
    fuzzing(60),
  )
})

/** Answers that lie about nothing that can't be told. */
const distortions: readonly Trouble[] = [
  'connection lost',
  'done, connection lost',
  'done, then 500',
  changed((answer) => ({ ...answer, end: 'broken', headers: { ...answer.headers, 'content-length': String(answer.body.length + 1) } })),
  changed((answer) => ({ ...answer, end: 'silent', headers: { ...answer.headers, 'content-length': String(answer.body.length + 1) } })),
  changed((answer) => ({
    ...answer,
    body: answer.body.subarray(0, answer.body.length >> 1),
    end: 'broken',
    headers: { ...answer.headers, 'content-length': String(answer.body.length + 1) },
  })),
  withHeaders({ 'last-modified': 'never', 'content-type': 'text/html' }),
  without('etag'),
  ...[302, 400, 418, 429, 500, 503, 507].map((status) => ({ answer: { status, headers: {}, body: Buffer.from('<html>no S3</html>') } })),
  ...[400, 409, 503].map((status) => ({ status, code: 'OperationAborted' })),
  ...['', '\0\x01<<<&;', '<Error/>', '<a><b></a>', '{}'].map((body) => ({ answer: { status: 500, headers: {}, body: Buffer.from(body) } })),
]

test('whatever a store answers: each call ends, with what is there or an error that says so, and what is acknowledged is there', async () => {
  const names = ['a', 'b', 'c']
  const call = fc.record({
    name: fc.constantFrom(...names),
    kind: fc.constantFrom('put', 'putIfAbsent', 'get', 'range', 'head', 'list', 'delete'),
    length: fc.nat(7),
    fates: fc.array(fc.nat(distortions.length * 2), { maxLength: 6 }),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(call, { maxLength: 12 }), async (calls) => {
      let fates: number[] = []
      const fate = ({ method }: { method: string }): Trouble => {
        const trouble = distortions[fates.shift() ?? distortions.length] ?? 'none'
        // Without a body nothing tells that its length is wrong.
        return method === 'HEAD' && typeof trouble === 'object' && 'change' in trouble ? 'none' : trouble
      }
      const server = await startScripted(fate, { ...inParts, timeoutMs: 60, maxAttempts: 3, pageKeys: 2 })
      try {
        for (const [index, { fates: given, kind, length, name }] of calls.entries()) {
          fates = [...given]
          const uri = `s3://lake/t/${name}`
          const there = () => server.objects.get(`/lake/t/${name}`)?.body
          const before = there()
          const bytes = Buffer.alloc(length, index + 1)
          try {
            if (kind === 'put') {
              await server.store.put(uri, bytes)
              expect(there()).toEqual(bytes)
            } else if (kind === 'putIfAbsent') {
              const outcome = await server.store.putIfAbsent(uri, bytes)
              expect(outcome).toBe(before === undefined ? 'created' : 'exists')
              expect(there()).toEqual(before ?? bytes)
            } else if (kind === 'get') expect(Buffer.from(await server.store.get(uri))).toEqual(before)
            else if (kind === 'range') {
              const range = { offset: length % 2 === 0 ? 1 : null, length }
              const found = Buffer.from(await server.store.get(uri, range))
              expect(found).toEqual(
                range.offset === 1 ? before!.subarray(1, 1 + length) : before!.subarray(Math.max(0, before!.length - length)),
              )
            } else if (kind === 'head') expect((await server.store.head(uri))?.size).toBe(before?.length)
            else if (kind === 'list')
              expect(await listed(server.store)).toEqual([...server.objects.keys()].sort().map((path) => `s3:/${path}`))
            else {
              await server.store.delete(uri)
              expect(there()).toBeUndefined()
            }
          } catch (error) {
            if (!isMoonlinkError(error)) throw error
            expect(['retry', 'invalid']).toContain(error.kind)
            if (given.length === 0) expect(error.code).toBe('OBJECT_NOT_FOUND')
            expect(error.message).not.toContain('\n')
          }
        }
      } finally {
        await server.close()
      }
    }),
    fuzzing(40),
  )
})
