import { MoonlinkError, parseJsonLossless, silentLogger, silentTelemetry } from '@moonlink/core'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import type { Operations } from '../service/operations.ts'
import { createApi } from './app.ts'
import { endpoints } from './endpoints.ts'

function fake(overrides: Partial<Operations> = {}): Operations {
  const unexpected = () => {
    throw new Error('not expected here')
  }
  return {
    health: () => ({ status: 'ok', role: 'active' }),
    status: unexpected,
    ready: () => ({ ready: false, waitingFor: ['the change stream'] }),
    query: unexpected,
    wait: unexpected,
    flush: unexpected,
    verify: unexpected,
    listTables: unexpected,
    addTables: unexpected,
    dropTable: unexpected,
    pauseTable: unexpected,
    resyncTable: unexpected,
    requestStop: unexpected,
    uninstall: unexpected,
    ...overrides,
  }
}

function api(overrides: Partial<Operations> = {}, options: { token?: string; loopback?: boolean } = {}) {
  const app = createApi(fake(overrides), {
    loopback: true,
    logger: silentLogger,
    telemetry: silentTelemetry,
    metrics: async () => 'moonlink_up 1\n',
    ...options,
  })
  return (path: string, init: { method?: string; body?: string; headers?: Record<string, string> } = {}) =>
    app.request(`http://localhost:3030${path}`, { ...init, headers: { host: 'localhost:3030', ...init.headers } })
}

const post = (body: unknown) => ({ method: 'POST', body: JSON.stringify(body) })

describe('errors', () => {
  test('a time-out is 504, with the body every error has', async () => {
    const call = api({
      wait: async () => {
        throw new MoonlinkError('retry', 'TIMED_OUT', 'not applied\n within 5 ms', { context: { lsn: 5n } })
      },
    })
    const response = await call('/wait', post({ timeoutMs: 5 }))
    expect(response.status).toBe(504)
    expect(await response.json()).toEqual({
      error: { kind: 'retry', code: 'TIMED_OUT', message: 'not applied within 5 ms', context: { lsn: '5' } },
    })
  })

  test.each(['PG_SOURCE_CLOSED', 'PARQUET_POOL_CLOSED'])(
    'a request that meets %s was caught by the end of the backend, and is told so',
    async (code) => {
      const call = api({
        wait: async () => {
          throw new MoonlinkError('invalid', code, 'it has been closed.')
        },
      })
      const response = await call('/wait', post({ timeoutMs: 5 }))
      expect(response.status).toBe(503)
      expect(await response.json()).toMatchObject({ error: { kind: 'retry', code: 'STOPPING' } })
    },
  )

  test('requests are checked, and the message names the field', async () => {
    const call = api()
    for (const [body, text] of [
      [{ lsn: 'x' }, 'lsn: "x" is not an LSN'],
      [{ timeoutMs: 'soon' }, 'timeoutMs: "soon" must be of type number'],
      [{ timeoutMs: -1 }, 'timeoutMs: -1 must be at least 0'],
      [{ timeoutMs: 0.5 }, 'timeoutMs: 0.5 must be a whole number'],
      [{ timeout: 5, lsm: 1 }, 'the request takes no "timeout", "lsm"'],
      [[1], 'the request: [1] must be of type object'],
    ] as const) {
      const response = await call('/wait', post(body))
      expect(response.status).toBe(400)
      expect(((await response.json()) as { error: { message: string } }).error.message).toContain(text)
    }
    for (const [path, body, text] of [
      ['/query', {}, 'sql is missing: it must be of type string'],
      ['/query', { sql: '' }, 'sql is empty; send one SELECT'],
      ['/query', { sql: 'SELECT 1', format: 'xml' }, 'format: "xml" must be one of json, lines'],
      ['/tables', { tables: [] }, 'tables: [] must have at least 1 item'],
      ['/tables', { tables: ['orders'] }, 'tables.0: "orders" is not a table name; write schema.name'],
    ] as const) {
      const response = await call(path, post(body))
      expect(response.status).toBe(400)
      expect(((await response.json()) as { error: { message: string } }).error.message).toContain(text)
    }
    expect((await call('/wait', { method: 'POST', body: '{' })).status).toBe(400)
    expect((await call('/nothing')).status).toBe(404)
    expect((await call('/wait')).status).toBe(405)
  })

  test('what is not ours is a bug without a stack', async () => {
    const response = await api()('/status')
    expect(response.status).toBe(500)
    expect(await response.text()).not.toContain('app.test')
  })
})

describe('who may ask', () => {
  test('the token guards all but health and readiness', async () => {
    const call = api({ listTables: async () => ({ tables: [], sourceReason: null }) }, { token: 'open sesame' })
    expect((await call('/tables')).status).toBe(401)
    expect((await call('/tables', { headers: { authorization: 'Bearer open sesamf' } })).status).toBe(401)
    expect((await call('/tables', { headers: { authorization: 'Bearer open sesame' } })).status).toBe(200)
    expect((await call('/health')).status).toBe(200)
    expect((await call('/ready')).status).toBe(503)
  })

  test('a page of another site is refused, by its origin and by a rebound name', async () => {
    let stopped = false
    const call = api({ requestStop: () => (stopped = true) })
    const stop = (headers: Record<string, string>) => call('/stop', { method: 'POST', headers })
    expect((await stop({ origin: 'https://evil.example' })).status).toBe(403)
    expect((await stop({ origin: 'null' })).status).toBe(403)
    expect((await stop({ 'sec-fetch-site': 'cross-site' })).status).toBe(403)
    expect((await stop({ host: 'evil.example:3030', origin: 'http://evil.example:3030' })).status).toBe(403)
    expect(stopped).toBe(false)
    expect((await stop({ origin: 'http://localhost:3030' })).status).toBe(202)
    expect(stopped).toBe(true)
  })
})

describe('query', () => {
  async function* chunks(fail: boolean) {
    yield [
      [1, 'a'],
      [9007199254740993n, null],
    ]
    if (fail) throw new MoonlinkError('invalid', 'SQL_FAILED', 'a division')
    yield [['0.10', 'b']]
  }
  let closed = 0
  const call = (fail = false) =>
    api({
      query: async () => ({
        lsn: 0x16b3748n,
        columns: [
          { name: 'n', type: 'DECIMAL' },
          { name: 's', type: 'VARCHAR' },
        ],
        rows: chunks(fail),
        close: () => closed++,
      }),
    })

  test('a result that is left unread lets go of what it held', async () => {
    closed = 0
    const response = await call()('/query', post({ sql: 'SELECT 1' }))
    await response.body?.cancel()
    expect(closed).toBe(1)
    await (await call()('/query', post({ sql: 'SELECT 1' }))).text()
    expect(closed).toBe(2)
  })

  test('streams one document with exact numbers', async () => {
    const text = await (await call()('/query', post({ sql: 'SELECT 1' }))).text()
    expect(text).toContain('[9007199254740993,null]')
    expect(JSON.parse(text)).toMatchObject({ lsn: '0/16B3748', rowCount: 3 })
    expect((parseJsonLossless(text) as unknown as { rows: unknown[][] }).rows.map((row) => row[0])).toEqual([1, 9007199254740993n, '0.10'])
  })

  test('an error after the first rows is in the document, and the last of the lines', async () => {
    const document = (await (await call(true)('/query', post({ sql: 'SELECT 1' }))).json()) as { rows: unknown[]; error: { code: string } }
    expect(document.rows).toHaveLength(2)
    expect(document.error.code).toBe('SQL_FAILED')
    const lines = (await (await call(true)('/query', post({ sql: 'SELECT 1', format: 'lines' }))).text()).trim().split('\n')
    expect(lines).toHaveLength(4)
    expect(JSON.parse(lines[3])).toMatchObject({ error: { code: 'SQL_FAILED' } })
  })
})

describe('the OpenAPI document', () => {
  const read = async () => (await (await api()('/openapi.json')).json()) as OpenApiDocument

  test('has every endpoint, and all its references lead to a schema that says something', async () => {
    const document = await read()
    expect(document.openapi).toBe('3.1.0')
    for (const endpoint of endpoints) expect(document.paths[endpoint.path.replace(/:(\w+)/, '{$1}')]).toHaveProperty(endpoint.method)
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map((match) => match[1])
    expect(references.length).toBeGreaterThan(10)
    for (const reference of references) expect(document.components.schemas).toHaveProperty(reference.replace('#/components/schemas/', ''))
    for (const schema of Object.values(document.components.schemas)) expect(schema).not.toHaveProperty('$ref')
  })

  test('tells of the answers what they are: documents, lines, errors, and which bodies may be left out', async () => {
    const { paths, components } = await read()
    const wait = paths['/wait']['post']
    expect(wait.requestBody).toMatchObject({ required: false })
    expect(paths['/query']['post'].requestBody).toMatchObject({ required: true })
    expect(Object.keys(paths['/query']['post'].responses['200'].content)).toEqual(['application/json', 'application/x-ndjson'])
    expect(Object.keys(paths['/verify']['post'].responses['200'].content)).toEqual(['application/x-ndjson'])
    const body = await (await api({ ready: () => ({ ready: false, waitingFor: ['it'] }) })('/ready')).json()
    expect(described(paths['/ready']['get'].responses['503'], components).parse(body)).toEqual(body)
    const failed = await (await api()('/wait', post({ timeoutMs: -1 }))).json()
    expect(described(wait.responses['default'], components).parse(failed)).toEqual(failed)
    expect(described(wait.responses['200'], components).safeParse(failed).success).toBe(false)
    expect(paths['/metrics']['get'].responses['default']).toEqual(wait.responses['default'])
  })
})

interface OpenApiDocument {
  readonly openapi: string
  readonly paths: Record<string, Record<string, { readonly requestBody: object; readonly responses: Record<string, OpenApiAnswer> }>>
  readonly components: { readonly schemas: Record<string, object> }
}

interface OpenApiAnswer {
  readonly content: Record<string, { readonly schema: object }>
}

/** A check made of what the document says of an answer. */
function described(answer: OpenApiAnswer, components: OpenApiDocument['components']): z.ZodType {
  const local = (node: object) => JSON.parse(JSON.stringify(node).replaceAll('#/components/schemas/', '#/$defs/')) as object
  return z.fromJSONSchema({ ...local(answer.content['application/json'].schema), $defs: local(components.schemas) } as never)
}
