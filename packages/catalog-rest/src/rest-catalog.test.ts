import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { parseJsonLossless, stringifyJsonLossless, type Clock, type JsonObject, type JsonValue } from '@moonlink/core'
import { afterEach, describe, expect, test } from 'vitest'
import type { RestCatalogOptions } from './options.ts'
import { RestCatalog } from './rest-catalog.ts'

interface Request {
  readonly line: string
  readonly headers: IncomingMessage['headers']
  readonly body: JsonValue
}
interface Answer {
  readonly status?: number
  readonly body?: JsonValue
  readonly text?: string
  /** `hang`: never answers; `reset`: the connection breaks after the request was read. */
  readonly instead?: 'hang' | 'reset'
}

const TABLE = { namespace: 'shop', name: 'orders' }
const PATH = '/v1/namespaces/shop/tables/orders'
const UUID = '11111111-1111-4111-8111-111111111111'
const METADATA = {
  'format-version': 3,
  'table-uuid': UUID,
  location: 's3://lake/shop/orders',
  'last-sequence-number': 0,
  'last-column-id': 1,
  'next-row-id': 0,
  schemas: [{ 'schema-id': 0, type: 'struct', fields: [{ id: 1, name: 'a', type: 'long', required: false }] }],
  'current-schema-id': 0,
} satisfies JsonObject
const LOADED = { 'metadata-location': 's3://lake/shop/orders/metadata/0.metadata.json', metadata: METADATA } satisfies JsonObject

const failure = (code: number, type: string, message = 'as the server puts it'): Answer => ({
  status: code,
  body: { error: { message, type, code } },
})

/** Time that passes at once, except for the time-out of a request. */
const hastyClock: Clock = {
  nowMs: () => 0,
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, ms >= 1000 ? 300 : 0)
      signal?.addEventListener('abort', () => {
        clearTimeout(timer)
        reject(signal.reason as Error)
      })
    }),
}

const closing: (() => void)[] = []
afterEach(() => {
  for (const close of closing.splice(0)) close()
})

/** A server that answers each `METHOD path` with its answers in turn, the last again and again. Every request is recorded. */
async function start(routes: Record<string, readonly Answer[]>, options: Partial<RestCatalogOptions> = {}) {
  const requests: Request[] = []
  const counts = new Map<string, number>()
  const server = createServer((request, response) => {
    let text = ''
    request.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    request.on('end', () => {
      const line = `${request.method} ${request.url}`
      requests.push({ line, headers: request.headers, body: text === '' ? null : parseJsonLossless(text) })
      const route =
        routes[line] ?? (line === 'GET /v1/config' ? [{ body: { defaults: {}, overrides: {} } }] : [{ status: 418, text: line }])
      const count = counts.get(line) ?? 0
      counts.set(line, count + 1)
      const answer = route[Math.min(count, route.length - 1)]
      if (answer.instead === 'hang') return
      if (answer.instead === 'reset') return void request.socket.destroy()
      response.writeHead(answer.status ?? 200, { 'content-type': 'application/json' })
      response.end(answer.text ?? (answer.body === undefined ? '' : stringifyJsonLossless(answer.body)))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => {
    server.closeAllConnections()
    server.close()
  })
  const uri = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const catalog = new RestCatalog({ uri, clock: hastyClock, timeoutMs: 1000, ...options })
  return { catalog, requests, lines: () => requests.map((request) => request.line).filter((line) => !line.includes('/v1/config')) }
}

describe('configuration', () => {
  test('the server’s defaults give way to the client’s properties, and these to its overrides', async () => {
    const { catalog, requests } = await start(
      {
        'GET /v1/config?warehouse=my%20lake': [
          { body: { defaults: { prefix: 'd', 'header.x-a': 'd', 'header.x-b': 'd' }, overrides: { prefix: 'catalogs/o' } } },
        ],
        'GET /v1/catalogs/o/namespaces/shop/tables/orders': [{ body: LOADED }],
      },
      {
        warehouse: 'my lake',
        token: 'the-token',
        headers: { 'x-c': 'c' },
        properties: { prefix: 'client', 'header.x-a': 'client' },
      },
    )
    await Promise.all([catalog.load(TABLE), catalog.load(TABLE)])
    expect(requests.filter(({ line }) => line.includes('/v1/config'))).toHaveLength(1)
    expect(requests[0].headers).toMatchObject({ authorization: 'Bearer the-token', 'x-c': 'c' })
    expect(requests[1].headers).toMatchObject({ authorization: 'Bearer the-token', 'x-a': 'client', 'x-b': 'd', 'x-c': 'c' })
  })

  test('a configuration that could not be had is asked for again', async () => {
    const { catalog } = await start({
      'GET /v1/config': [failure(401, 'NotAuthorizedException'), { body: {} }],
      [`GET ${PATH}`]: [{ body: LOADED }],
    })
    await expect(catalog.load(TABLE)).rejects.toMatchObject({ code: 'CATALOG_DENIED' })
    expect(await catalog.load(TABLE)).not.toBeNull()
  })

  test('a namespace that holds the server’s separator is refused', async () => {
    const { catalog } = await start({ 'GET /v1/config': [{ body: { overrides: { 'namespace-separator': '%2E' } } }] })
    await expect(catalog.list('a.b')).rejects.toMatchObject({ kind: 'invalid', code: 'NAME_UNSUPPORTED' })
    await expect(catalog.load({ namespace: 'a', name: '..' })).rejects.toMatchObject({ kind: 'invalid', code: 'NAME_UNSUPPORTED' })
  })

  test.each(['ftp://host', 'host:8181', 'http://user:hunter22@host', 'http://host?a=b'])('the URI %s is refused and not quoted', (uri) => {
    expect(() => new RestCatalog({ uri })).toThrow(
      expect.objectContaining({ code: 'CATALOG_URI_INVALID', message: expect.not.stringContaining('hunter22') }),
    )
  })
})

describe('load', () => {
  test('storage credentials: the longest prefix of the location wins over the plain configuration', async () => {
    const body = {
      ...LOADED,
      config: { 's3.access-key-id': 'plain', 'client.region': 'eu-1' },
      'storage-credentials': [
        { prefix: 's3://lake/shop/', config: { 's3.access-key-id': 'near' } },
        { prefix: 's3://lake/', config: { 's3.access-key-id': 'far' } },
        { prefix: 's3://other/', config: { 's3.access-key-id': 'other' } },
      ],
    }
    const { catalog } = await start({ [`GET ${PATH}`]: [{ body }] })
    expect((await catalog.load(TABLE))?.config).toEqual({ 's3.access-key-id': 'near', 'client.region': 'eu-1' })
  })

  test('is repeated after failures that may pass', async () => {
    const { catalog, lines } = await start({
      [`GET ${PATH}`]: [failure(503, 'Unavailable'), { instead: 'reset' }, failure(429, 'SlowDown'), { body: LOADED }],
    })
    expect(await catalog.load(TABLE)).not.toBeNull()
    expect(lines()).toHaveLength(4)
  })

  test('gives up after maxAttempts', async () => {
    const { catalog, lines } = await start({ [`GET ${PATH}`]: [failure(503, 'Unavailable')] }, { maxAttempts: 2 })
    await expect(catalog.load(TABLE)).rejects.toMatchObject({ kind: 'retry', code: 'CATALOG_UNAVAILABLE' })
    expect(lines()).toHaveLength(2)
  })

  test('an absent table is told from a lost metadata file by the namespace’s list', async () => {
    const listed = { body: { identifiers: [{ namespace: ['shop'], name: 'orders' }] } }
    const routes = { [`GET ${PATH}`]: [failure(404, 'NotFoundException', 'no such file: 0.metadata.json')] }
    const broken = await start({ ...routes, 'GET /v1/namespaces/shop/tables?pageToken=': [listed] })
    await expect(broken.catalog.load(TABLE)).rejects.toMatchObject({ kind: 'corrupt', code: 'TABLE_UNREADABLE' })
    const absent = await start({ ...routes, 'GET /v1/namespaces/shop/tables?pageToken=': [{ body: { identifiers: [] } }] })
    expect(await absent.catalog.load(TABLE)).toBeNull()
    const elsewhere = await start({ [`GET ${PATH}`]: [{ status: 404, text: '<html>not found</html>' }] })
    await expect(elsewhere.catalog.load(TABLE)).rejects.toMatchObject({ kind: 'invalid', code: 'CATALOG_NOT_FOUND' })
  })

  const lies: readonly (readonly [string, JsonValue, string])[] = [
    ['no metadata', { 'metadata-location': 's3://a' }, 'metadata'],
    ['no location of the metadata', { metadata: METADATA }, 'metadata-location'],
    ['no uuid', { ...LOADED, metadata: { ...METADATA, 'table-uuid': '' } }, 'table-uuid'],
    ['a schema that is not there', { ...LOADED, metadata: { ...METADATA, 'current-schema-id': 4 } }, 'current-schema-id'],
    ['a snapshot that is not there', { ...LOADED, metadata: { ...METADATA, 'current-snapshot-id': 2n ** 60n } }, 'current-snapshot-id'],
    [
      'a branch elsewhere',
      {
        ...LOADED,
        metadata: { ...METADATA, 'current-snapshot-id': 1, snapshots: [{ 'snapshot-id': 1 }], refs: { main: { 'snapshot-id': 2 } } },
      },
      'main',
    ],
    [
      'no row ids',
      { ...LOADED, metadata: Object.fromEntries(Object.entries(METADATA).filter(([key]) => key !== 'next-row-id')) },
      'next-row-id',
    ],
    ['a list', [], 'the body'],
  ]
  test.each(lies)('an answer with %s is corrupt, and says so', async (_, body, named) => {
    const { catalog } = await start({ [`GET ${PATH}`]: [{ body }] })
    await expect(catalog.load(TABLE)).rejects.toMatchObject({
      kind: 'corrupt',
      code: 'CATALOG_ANSWER_INVALID',
      message: expect.stringContaining(named),
    })
  })

  test('an answer that is no JSON is corrupt', async () => {
    const { catalog } = await start({ [`GET ${PATH}`]: [{ text: '<html>welcome</html>' }] })
    await expect(catalog.load(TABLE)).rejects.toMatchObject({ kind: 'corrupt', code: 'JSON_MALFORMED' })
  })

  test('refusals name the remedy; the token stays out of the message', async () => {
    const denied = failure(403, 'ForbiddenException', 'the principal of\n  s3cr3t-token may not')
    const { catalog } = await start({ [`GET ${PATH}`]: [denied] }, { token: 's3cr3t-token' })
    await expect(catalog.load(TABLE)).rejects.toMatchObject({
      kind: 'invalid',
      code: 'CATALOG_DENIED',
      message: expect.stringMatching(/the principal of \*\*\* may not; give the token's principal the privilege/),
    })
    const bare = await start({ 'GET /v1/config': [{ status: 401 }] })
    await expect(bare.catalog.load(TABLE)).rejects.toMatchObject({ message: expect.stringContaining('no token is set') })
  })

  test('a server that is not there is named', async () => {
    const catalog = new RestCatalog({ uri: 'http://127.0.0.1:9', clock: hastyClock, maxAttempts: 2 })
    await expect(catalog.load(TABLE)).rejects.toMatchObject({
      kind: 'retry',
      code: 'CATALOG_UNAVAILABLE',
      message: expect.stringContaining('http://127.0.0.1:9'),
    })
  })
})

describe('commit', () => {
  const id = 8_765_432_109_876_543_211n
  const requirement = { type: 'assert-table-uuid', uuid: UUID }
  const updates = [{ action: 'add-snapshot', snapshot: { 'snapshot-id': id } }]
  const committed = { ...LOADED, metadata: { ...METADATA, snapshots: [{ 'snapshot-id': id }] } }

  test('sends requirements and updates once, 64-bit ids exact', async () => {
    const { catalog, requests, lines } = await start({ [`POST ${PATH}`]: [{ body: committed }] })
    await catalog.commit(TABLE, [requirement], updates)
    expect(lines()).toEqual([`POST ${PATH}`])
    expect(requests.at(-1)?.body).toEqual({ identifier: { namespace: ['shop'], name: 'orders' }, requirements: [requirement], updates })
  })

  const outcomes: readonly (readonly [string, Answer, string, string])[] = [
    ['409', failure(409, 'CommitFailedException'), 'conflict', 'COMMIT_CONFLICT'],
    ['500', failure(500, 'CommitStateUnknownException'), 'retry', 'COMMIT_UNKNOWN'],
    ['502', { status: 502, text: '<html>' }, 'retry', 'COMMIT_UNKNOWN'],
    ['503', failure(503, 'ServiceUnavailable'), 'retry', 'COMMIT_UNKNOWN'],
    ['504', { status: 504 }, 'retry', 'COMMIT_UNKNOWN'],
    ['a broken connection', { instead: 'reset' }, 'retry', 'COMMIT_UNKNOWN'],
    ['no answer', { instead: 'hang' }, 'retry', 'COMMIT_UNKNOWN'],
    ['half an answer', { text: '{"metadata-location": "s3' }, 'retry', 'COMMIT_UNKNOWN'],
    ['400', failure(400, 'BadRequestException', 'unknown update'), 'invalid', 'CATALOG_REFUSED'],
    ['404', failure(404, 'NoSuchTableException'), 'invalid', 'TABLE_NOT_FOUND'],
    ['another table', { body: { ...LOADED, metadata: { ...METADATA, 'table-uuid': 'other' } } }, 'corrupt', 'CATALOG_ANSWER_INVALID'],
    ['a table without the snapshot', { body: LOADED }, 'corrupt', 'CATALOG_ANSWER_INVALID'],
  ]
  test.each(outcomes)('%s is sent once and becomes %j → %s/%s', async (_, answer, kind, code) => {
    const { catalog, lines } = await start({ [`POST ${PATH}`]: [answer, { body: committed }] })
    await expect(catalog.commit(TABLE, [requirement], updates)).rejects.toMatchObject({ kind, code })
    expect(lines()).toEqual([`POST ${PATH}`])
  })

  test('is sent again where the server asks to slow down, for it did nothing', async () => {
    const { catalog } = await start({ [`POST ${PATH}`]: [failure(429, 'SlowDown'), { body: committed }] })
    await expect(catalog.commit(TABLE, [requirement], updates)).resolves.toBeDefined()
  })
})

describe('create', () => {
  const schema = METADATA.schemas[0]
  const stage = 'POST /v1/namespaces/shop/tables'
  const staged = { body: { metadata: { ...METADATA, location: '/lake/shop/orders' } } }
  const options = { schema, properties: { owner: 'moonlink' } }

  test('makes a missing namespace, stages, then commits our ids, the staged uuid and an absolute location', async () => {
    const { catalog, requests, lines } = await start({
      [stage]: [failure(404, 'NoSuchNamespaceException'), staged],
      'POST /v1/namespaces': [failure(409, 'AlreadyExistsException')],
      [`POST ${PATH}`]: [{ body: LOADED }],
    })
    await catalog.create(TABLE, options)
    expect(lines()).toEqual([stage, 'POST /v1/namespaces', stage, `POST ${PATH}`])
    expect(requests.at(-2)?.body).toMatchObject({ 'stage-create': true, properties: { 'format-version': '3' } })
    const body = requests.at(-1)?.body as JsonObject
    expect(body['requirements']).toEqual([{ type: 'assert-create' }])
    expect(body['updates']).toContainEqual({ action: 'assign-uuid', uuid: UUID })
    expect(body['updates']).toContainEqual({ action: 'add-schema', schema, 'last-column-id': 1 })
    expect(body['updates']).toContainEqual({ action: 'set-location', location: 'file:///lake/shop/orders' })
  })

  test('a lost answer is a success where the table that is there is ours', async () => {
    const routes = { [stage]: [staged], [`POST ${PATH}`]: [failure(500, 'Unknown')] }
    const ours = await start({ ...routes, [`GET ${PATH}`]: [{ body: LOADED }] })
    expect((await ours.catalog.create(TABLE, options)).metadata['table-uuid']).toBe(UUID)
    const theirs = await start({ ...routes, [`GET ${PATH}`]: [{ body: { ...LOADED, metadata: { ...METADATA, 'table-uuid': 'other' } } }] })
    await expect(theirs.catalog.create(TABLE, options)).rejects.toMatchObject({ kind: 'conflict', code: 'TABLE_EXISTS' })
    const nobodys = await start({ ...routes, [`GET ${PATH}`]: [failure(404, 'NoSuchTableException')] })
    await expect(nobodys.catalog.create(TABLE, options)).rejects.toMatchObject({ kind: 'retry', code: 'COMMIT_UNKNOWN' })
  })

  test('a request that was lost is sent again, and the table is ours whichever of the two made it', async () => {
    const absent = failure(404, 'NoSuchTableException')
    const lost = await start({ [stage]: [staged], [`POST ${PATH}`]: [{ instead: 'reset' }, { body: LOADED }], [`GET ${PATH}`]: [absent] })
    expect((await lost.catalog.create(TABLE, options)).metadata['table-uuid']).toBe(UUID)
    const exists = failure(409, 'AlreadyExistsException')
    const late = await start({
      [stage]: [staged],
      [`POST ${PATH}`]: [{ instead: 'reset' }, exists],
      [`GET ${PATH}`]: [absent, { body: LOADED }],
    })
    expect((await late.catalog.create(TABLE, options)).metadata['table-uuid']).toBe(UUID)
  })

  test('other field ids or another format version than asked for are found out', async () => {
    const renumbered = { ...METADATA, schemas: [{ ...schema, fields: [{ ...schema.fields[0], id: 2 }] }] }
    const liar = await start({ [stage]: [staged], [`POST ${PATH}`]: [{ body: { ...LOADED, metadata: renumbered } }] })
    await expect(liar.catalog.create(TABLE, options)).rejects.toMatchObject({ kind: 'corrupt', message: expect.stringContaining('ids 2') })
    const old = await start({
      [stage]: [staged],
      [`POST ${PATH}`]: [{ body: { ...LOADED, metadata: { ...METADATA, 'format-version': 2 } } }],
    })
    await expect(old.catalog.create(TABLE, options)).rejects.toMatchObject({ kind: 'invalid', code: 'FORMAT_VERSION_UNSUPPORTED' })
  })
})

describe('list and drop', () => {
  const path = '/v1/namespaces/shop/tables'
  const page = (names: string[], next: string | null) => ({
    body: { identifiers: names.map((name) => ({ namespace: ['shop'], name })), 'next-page-token': next },
  })

  test('a list follows its pages', async () => {
    const { catalog } = await start({
      [`GET ${path}?pageToken=`]: [page(['a', 'b'], 'p 2')],
      [`GET ${path}?pageToken=p%202`]: [page(['c'], null)],
    })
    expect((await catalog.list('shop')).map(({ name }) => name)).toEqual(['a', 'b', 'c'])
  })

  test('pages that go round in a circle end', async () => {
    const { catalog } = await start({ [`GET ${path}?pageToken=`]: [page(['a'], 'x')], [`GET ${path}?pageToken=x`]: [page(['a'], 'x')] })
    await expect(catalog.list('shop')).rejects.toMatchObject({ kind: 'corrupt', message: expect.stringContaining('circle') })
  })

  test('drop passes purge on, and a second attempt that finds nothing is fine', async () => {
    const { catalog, lines } = await start({
      [`DELETE ${PATH}?purgeRequested=true`]: [{ instead: 'reset' }, failure(404, 'NoSuchTableException')],
    })
    await catalog.drop(TABLE, true)
    expect(lines()).toHaveLength(2)
  })

  test('drop at a wrong URI does not pass for a drop', async () => {
    const { catalog } = await start({ [`DELETE ${PATH}?purgeRequested=false`]: [{ status: 404, text: 'nginx' }] })
    await expect(catalog.drop(TABLE, false)).rejects.toMatchObject({ code: 'CATALOG_NOT_FOUND' })
  })
})
