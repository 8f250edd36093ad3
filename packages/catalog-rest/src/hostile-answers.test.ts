import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { isMoonlinkError, stringifyJsonLossless, type Clock, type JsonObject } from '@moonlink/core'
import { damaged, damagedJson, damages, fuzzing } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { RestCatalog } from './rest-catalog.ts'

const TABLE = { namespace: 'shop', name: 'orders' }
const UUID = '11111111-1111-4111-8111-111111111111'
const LOADED = {
  'metadata-location': 's3://lake/shop/orders/metadata/0.metadata.json',
  metadata: {
    'format-version': 3,
    'table-uuid': UUID,
    location: 's3://lake/shop/orders',
    'last-sequence-number': 1,
    'last-updated-ms': 1,
    'last-column-id': 1,
    'next-row-id': 0,
    schemas: [{ 'schema-id': 0, type: 'struct', fields: [{ id: 1, name: 'a', type: 'long', required: false }] }],
    'current-schema-id': 0,
    'current-snapshot-id': 7,
    snapshots: [{ 'snapshot-id': 7, 'manifest-list': 's3://lake/m.avro' }],
    refs: { main: { 'snapshot-id': 7, type: 'branch' } },
    properties: { a: 'b' },
  },
  config: { 'client.region': 'eu-1' },
  'storage-credentials': [{ prefix: 's3://lake/', config: { 's3.access-key-id': 'k' } }],
} satisfies JsonObject
const CONFIG = { defaults: { prefix: 'p' }, overrides: { 'header.x-a': 'b', 'namespace-separator': '%1F' } } satisfies JsonObject
const PAGE = { identifiers: [{ namespace: ['shop'], name: 'orders' }], 'next-page-token': null } satisfies JsonObject

interface Answer {
  readonly status: number
  readonly type: string
  readonly body: Uint8Array
  /** Of bytes promised and not sent. */
  readonly missing: number
}

const encode = (value: JsonObject): Uint8Array => new TextEncoder().encode(stringifyJsonLossless(value))
const whole = (body: Uint8Array): Answer => ({ status: 200, type: 'application/json', body, missing: 0 })

/** Answers of the server: to the configuration, and to everything else. */
let config = whole(encode(CONFIG))
let answer = whole(encode(LOADED))
let requests = 0
const server = createServer((request, response) => {
  request.resume()
  requests++
  const { status, type, body, missing } = request.url!.startsWith('/v1/config') ? config : answer
  response.writeHead(status, { 'content-type': type, 'content-length': body.length + missing })
  if (missing > 0) response.write(body, () => response.destroy())
  else response.end(body)
})
beforeAll(() => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve)))
afterAll(() => {
  server.closeAllConnections()
  server.close()
})

const hasty: Clock = {
  nowMs: () => 0,
  sleep: (ms, signal) =>
    ms < 1000 ? Promise.resolve() : new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error))),
}

const calls: readonly ((catalog: RestCatalog) => Promise<unknown>)[] = [
  (catalog) => catalog.load(TABLE),
  (catalog) => catalog.list('shop'),
  (catalog) => catalog.commit(TABLE, [], [{ action: 'set-properties', updates: { a: 'c' } }]),
  (catalog) => catalog.drop(TABLE, false),
]

/** True where the answer was taken. Whatever else it is, it is an error that says what to do, in few words. */
async function asked(call: (catalog: RestCatalog) => Promise<unknown>): Promise<boolean> {
  requests = 0
  const catalog = new RestCatalog({
    uri: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    clock: hasty,
    timeoutMs: 5000,
    maxAttempts: 2,
  })
  try {
    await call(catalog)
    return true
  } catch (error) {
    if (!isMoonlinkError(error)) throw error
    expect(error.kind).not.toBe('bug')
    expect(error.message.length).toBeLessThan(1500)
    return false
  } finally {
    expect(requests).toBeLessThan(30)
  }
}

test('what is damaged below is taken', async () => {
  config = whole(encode(CONFIG))
  answer = whole(encode(LOADED))
  expect(await asked(calls[0])).toBe(true)
  answer = whole(encode(PAGE))
  expect(await asked(calls[1])).toBe(true)
})

test('answers of any JSON are taken or refused', async () => {
  config = whole(encode(CONFIG))
  const lies = [...damagedJson(LOADED), ...damagedJson(PAGE)]
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...lies), fc.constantFrom(...calls), async ({ value }, call) => {
      answer = whole(encode(value as JsonObject))
      await asked(call)
    }),
    fuzzing(400),
  )
})

test('a configuration of any JSON is taken or refused', async () => {
  answer = whole(encode(LOADED))
  for (const { value } of damagedJson(CONFIG)) {
    config = whole(encode(value as JsonObject))
    await asked(calls[0])
  }
})

test('answers of any status, type and length, cut off or damaged, are taken or refused', async () => {
  config = whole(encode(CONFIG))
  const types = fc.constantFrom('application/json', 'text/html', 'application/octet-stream', 'application/json; charset=utf-16', '')
  const error = encode({ error: { message: 'as the server puts it', type: 'X', code: 500 } })
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(200, 204, 301, 304, 400, 401, 404, 409, 418, 429, 500, 502, 503),
      types,
      fc.constantFrom(encode(LOADED), encode(PAGE), error, new Uint8Array(0), new TextEncoder().encode('<html>')),
      fc.option(damages, { nil: [] }),
      fc.constantFrom(0, 0, 1, 1000),
      fc.constantFrom(...calls),
      async (status, type, body, what, missing, call) => {
        answer = { status, type, body: damaged(body, what), missing: [204, 304].includes(status) ? 0 : missing }
        await asked(call)
      },
    ),
    fuzzing(300),
  )
})

test('a list of pages that has no end is given up', async () => {
  config = whole(encode(CONFIG))
  answer = whole(encode({ ...PAGE, 'next-page-token': 'again' }))
  expect(await asked(calls[1])).toBe(false)
})
