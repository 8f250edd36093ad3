import { systemClock, type Clock } from '@moonlink/core'
import { afterEach, describe, expect, test } from 'vitest'
import { S3ObjectStore } from './s3-object-store.ts'
import { startScripted, type ScriptedServerOptions, type Trouble } from './scripted-s3.test.support.ts'

const URI = 's3://lake/t/v1'
const KEEPS_NO_METADATA = { keepsMetadata: false }
const one = Uint8Array.of(1)
const two = Uint8Array.of(2)
const hastyClock: Clock = { ...systemClock, sleep: () => Promise.resolve() }

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

async function start(script: readonly Trouble[] = [], options: ScriptedServerOptions = {}) {
  const started = await startScripted(script, options)
  closing.push(() => started.close())
  return started
}

describe('putIfAbsent when answers are lost', () => {
  const lost: readonly Trouble[] = ['done, connection lost', 'done, then 500']
  test.each(lost)('%s: the object is ours, so it was created', async (trouble) => {
    const { store, bytes, lines } = await start([trouble])
    expect(await store.putIfAbsent(URI, one)).toBe('created')
    expect(bytes()).toEqual(Buffer.from(one))
    expect(lines).toEqual(['PUT /lake/t/v1', 'PUT /lake/t/v1', 'HEAD /lake/t/v1'])
  })

  test('not done, and another created the very same bytes meanwhile: it exists', async () => {
    const { store, lines, putByOther } = await start(['connection lost', { status: 412, code: 'PreconditionFailed' }])
    putByOther(one, 'token of another')
    expect(await store.putIfAbsent(URI, one)).toBe('exists')
    expect(lines).toHaveLength(3)
  })

  test('without metadata the bytes decide', async () => {
    const ours = await start(['done, connection lost'], KEEPS_NO_METADATA)
    expect(await ours.store.putIfAbsent(URI, one)).toBe('created')
    const theirs = await start(['connection lost'], KEEPS_NO_METADATA)
    theirs.putByOther(two)
    expect(await theirs.store.putIfAbsent(URI, one)).toBe('exists')
  })

  test('a plain 412 needs no second look', async () => {
    const { store, lines, putByOther } = await start()
    putByOther(one)
    expect(await store.putIfAbsent(URI, one)).toBe('exists')
    expect(lines).toHaveLength(1)
  })

  test('contention (409) is tried again; at the end it may pass', async () => {
    const conflict: Trouble = { status: 409, code: 'ConditionalRequestConflict' }
    const some = await start([conflict, conflict])
    expect(await some.store.putIfAbsent(URI, one)).toBe('created')
    const endless = await start(
      Array.from({ length: 9 }, () => conflict),
      { maxAttempts: 3 },
    )
    await expect(endless.store.putIfAbsent(URI, one)).rejects.toMatchObject({ kind: 'retry', code: 'STORE_UNAVAILABLE' })
    expect(endless.lines).toHaveLength(3)
  })

  test('silence is given up after the time-out, and the outcome found out', async () => {
    const { store, lines } = await start(['silence'], { timeoutMs: 200 })
    expect(await store.putIfAbsent(URI, one)).toBe('created')
    expect(lines).toHaveLength(2)
  })
})

describe('uploads in parts', () => {
  const inParts = { multipartThresholdBytes: 3, partBytes: 2 }
  const five = Uint8Array.of(1, 2, 3, 4, 5)

  test('a lost answer to the last request is a success if the object is ours', async () => {
    const { store, bytes } = await start(['none', 'none', 'none', 'none', 'done, connection lost'], inParts)
    expect(await store.putIfAbsent(URI, five)).toBe('created')
    expect(bytes()).toEqual(Buffer.from(five))
  })

  test('a condition that fails aborts the upload', async () => {
    const { store, uploads, putByOther } = await start([], inParts)
    putByOther(one)
    expect(await store.putIfAbsent(URI, five)).toBe('exists')
    expect(uploads.size).toBe(0)
  })

  test('a part that fails for good aborts the upload', async () => {
    const { store, objects, uploads, lines } = await start(['none', { status: 403, code: 'AccessDenied' }], inParts)
    await expect(store.put(URI, five)).rejects.toMatchObject({ kind: 'invalid', code: 'STORE_NOT_WRITABLE' })
    expect(objects.size).toBe(0)
    expect(uploads.size).toBe(0)
    expect(lines.at(-1)).toMatch(/^DELETE/)
  })
})

describe('errors', () => {
  const cases: readonly (readonly [number, string, string, string, string])[] = [
    [403, 'AccessDenied', 'invalid', 'STORE_NOT_WRITABLE', 's3:PutObject'],
    [403, 'SignatureDoesNotMatch', 'invalid', 'STORE_CREDENTIALS', 'credentials'],
    [403, 'InvalidAccessKeyId', 'invalid', 'STORE_CREDENTIALS', 'credentials'],
    [404, 'NoSuchBucket', 'invalid', 'BUCKET_NOT_FOUND', 'bucket lake'],
    [301, 'PermanentRedirect', 'invalid', 'STORE_REGION', 'region'],
    [501, 'NotImplemented', 'invalid', 'STORE_UNSUPPORTED', 'conditional'],
    [507, 'XMinioStorageFull', 'invalid', 'STORE_FULL', 'free space'],
    [500, 'InternalError', 'retry', 'STORE_UNAVAILABLE', 'has room'],
    [400, 'InvalidRequest', 'invalid', 'STORE_REFUSED', 'as the server puts it'],
    [503, 'SlowDown', 'retry', 'STORE_UNAVAILABLE', URI],
  ]
  test.each(cases)('%i %s is %s/%s and names "%s"', async (status, name, kind, code, named) => {
    const { store } = await start(
      Array.from({ length: 3 }, () => ({ status, code: name })),
      { maxAttempts: 3 },
    )
    const error: unknown = await store.put(URI, one).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ kind, code, message: expect.stringContaining(named) })
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('do-not-print-me')
  })

  test('a store that is not there is named, after all attempts', async () => {
    const store = new S3ObjectStore({
      endpoint: 'http://127.0.0.1:9',
      credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
      clock: hastyClock,
      maxAttempts: 2,
    })
    await expect(store.get(URI)).rejects.toMatchObject({ kind: 'retry', message: expect.stringContaining('http://127.0.0.1:9') })
    await store.close()
  })

  test('reads are repeated', async () => {
    const { store, putByOther, lines } = await start([
      'connection lost',
      { status: 500, code: 'InternalError' },
      { status: 503, code: 'SlowDown' },
    ])
    putByOther(two)
    expect(await store.get(URI)).toEqual(two)
    expect(lines).toHaveLength(4)
  })

  test.each(['s3://', 's3://bucket', 's3://bucket/', 's3://bucket/a/', 'file:///a', 'bucket/a'])('the URI %j is refused', async (uri) => {
    const { store } = await start()
    await expect(store.put(uri, one)).rejects.toMatchObject({ kind: 'invalid', code: 'URI_MALFORMED' })
  })
})
