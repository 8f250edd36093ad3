import { silentLogger, silentTelemetry, type JsonValue } from '@moonlink/core'
import { damaged, damagedJson, damages, fuzzing } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Operations } from '../service/operations.ts'
import { createApi } from './app.ts'
import { endpoints } from './endpoints.ts'
import { errorSchema } from './schemas.ts'

/** What arrives behind the API: it must be of the types that are promised. */
const arrived: { name: string; values: readonly unknown[] }[] = []

function taking<T>(name: string, answer: T) {
  return (...values: unknown[]): T => {
    arrived.push({ name, values })
    return answer
  }
}

async function* none(): AsyncGenerator<never> {}

const operations = {
  health: () => ({ status: 'ok', role: 'active' }),
  ready: () => ({ ready: true, waitingFor: [] }),
  status: async () => ({}),
  query: taking('query', Promise.resolve({ lsn: null, columns: [], rows: none(), close: () => undefined })),
  wait: taking('wait', Promise.resolve(1n)),
  flush: taking('flush', Promise.resolve({ tables: [] })),
  verify: taking('verify', none()),
  listTables: async () => ({ tables: [], sourceReason: null }),
  addTables: taking('addTables', Promise.resolve()),
  dropTable: taking('dropTable', Promise.resolve()),
  pauseTable: taking('pauseTable', Promise.resolve()),
  resyncTable: taking('resyncTable', Promise.resolve()),
  requestStop: () => undefined,
  uninstall: async () => undefined,
} as unknown as Operations

const api = createApi(operations, {
  loopback: true,
  logger: silentLogger,
  telemetry: silentTelemetry,
  metrics: async () => 'moonlink_up 1\n',
})

/** The status; what is no success must be an error of ours, in few words, and not one that we did not think of. */
async function call(path: string, init: RequestInit = {}): Promise<number> {
  const response = await api.request(`http://localhost:3030${path}`, { ...init, headers: { host: 'localhost:3030' } })
  const text = await response.text()
  if (response.ok) return response.status
  const { error } = errorSchema.parse(JSON.parse(text))
  expect(error.kind, text).not.toBe('bug')
  expect(error.message.length).toBeLessThan(3000)
  expect(error.message).not.toContain('\n')
  return response.status
}

const bodies: Readonly<Record<string, JsonValue>> = {
  '/query': { sql: 'SELECT 1', atLsn: '0/16B3748', timeoutMs: 5, format: 'lines' },
  '/wait': { lsn: '0/16B3748', iceberg: true, timeoutMs: 5 },
  '/flush': { tables: ['public.a', 'public.b'] },
  '/verify': { tables: ['public.a'] },
  '/tables': { tables: ['public.a', 'public.b'] },
}
const withBody = endpoints.filter((endpoint) => endpoint.body !== undefined)

test('every endpoint that takes a body is called below', () => {
  expect(withBody.map(({ path }) => path).toSorted()).toEqual(Object.keys(bodies).toSorted())
})

function isLsn(value: unknown): boolean {
  return value === null || (typeof value === 'bigint' && value >= 0n && value < 2n ** 64n)
}

function isTables(value: unknown): boolean {
  return value === null || (Array.isArray(value) && value.every((name) => typeof name === 'string' && name.includes('.')))
}

function isTime(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

const promised: Readonly<Record<string, (value: unknown) => boolean>> = {
  query: (value) => {
    const { sql, atLsn, timeoutMs } = value as { sql: unknown; atLsn: unknown; timeoutMs: unknown }
    return typeof sql === 'string' && sql !== '' && isLsn(atLsn) && isTime(timeoutMs)
  },
  wait: (value) => {
    const { lsn, iceberg, timeoutMs } = value as { lsn: unknown; iceberg: unknown; timeoutMs: unknown }
    return isLsn(lsn) && typeof iceberg === 'boolean' && isTime(timeoutMs)
  },
  flush: isTables,
  verify: isTables,
  addTables: isTables,
}

function expectAsPromised(): void {
  for (const { name, values } of arrived.splice(0)) {
    expect(promised[name](values[0]), `${name} ${JSON.stringify(values, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v))}`).toBe(
      true,
    )
  }
}

test.each(withBody.map(({ method, path }) => [path, method] as const))(
  '%s: a body of any JSON is refused, or arrives as promised',
  async (path, method) => {
    for (const { value } of damagedJson(bodies[path])) {
      const body = JSON.stringify(value, (_, item: unknown) => (typeof item === 'bigint' ? Number(item) : item))
      expect([200, 202, 400]).toContain(await call(path, { method: method.toUpperCase(), body }))
      expectAsPromised()
    }
  },
)

test('bytes that are no JSON, or no text, are refused', async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...withBody), damages, async ({ method, path }, what) => {
      const body = damaged(new TextEncoder().encode(JSON.stringify(bodies[path])), what) as Uint8Array<ArrayBuffer>
      expect([200, 400]).toContain(await call(path, { method: method.toUpperCase(), body }))
      expectAsPromised()
    }),
    fuzzing(1000),
  )
})

test('long texts are answered at once, and in few words', async () => {
  const long = ' '.repeat(3 << 20)
  for (const body of [{ lsn: long }, { [long]: 1 }, { timeoutMs: long }, { lsn: `\n${long}\n` }]) {
    expect(await call('/wait', { method: 'POST', body: JSON.stringify(body) })).toBe(400)
  }
  const many = Object.fromEntries(Array.from({ length: 100_000 }, (_, index) => [`key${index}`, index]))
  expect(await call('/flush', { method: 'POST', body: JSON.stringify(many) })).toBe(400)
  expect(await call('/flush', { method: 'POST', body: JSON.stringify({ tables: Array.from({ length: 100_000 }, () => 'x') }) })).toBe(400)
  expect(await call('/flush', { method: 'POST', body: '['.repeat(1 << 20) })).toBe(400)
})

test('a body that has no end is cut off', async () => {
  let sent = 0
  const endless = new ReadableStream({
    pull(controller) {
      sent += 1 << 16
      controller.enqueue(new Uint8Array(1 << 16).fill(0x20))
    },
  })
  const init = { method: 'POST', body: endless, duplex: 'half' } as RequestInit
  expect(await call('/query', init)).toBe(413)
  expect(sent).toBeLessThan(16 << 20)
})

test('paths and queries of any text lead to a table of that name, or nowhere', async () => {
  const odd = fc.constantFrom(
    '..',
    '%2e%2e',
    '%2F',
    '/',
    '%00',
    '%',
    '%zz',
    '%E0%A4',
    'public.a',
    '?',
    'purge=',
    'true',
    '&',
    '#',
    ';',
    '\\',
    ':table',
    '*',
    '%0d%0a',
  )
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('GET', 'POST', 'DELETE', 'PUT', 'PATCH', 'OPTIONS', 'HEAD'),
      fc.array(odd, { maxLength: 6 }),
      async (method, parts) => {
        const path = `/tables/${parts.join('')}`
        const response = await api.request(`http://localhost:3030${path}`, { method, headers: { host: 'localhost:3030' } })
        expect(response.status, `${method} ${path}`).toBeLessThan(500)
        for (const { values } of arrived.splice(0)) expect(values[0]).toBeTypeOf('string')
      },
    ),
    fuzzing(1000),
  )
  expect(await call('/tables/public.a?purge=yes', { method: 'DELETE' })).toBe(400)
  expect(await call('/tables/public.a?purge=true&purge=false', { method: 'DELETE' })).toBeLessThan(500)
  expect(await call('/tables/public.a?remove=all', { method: 'DELETE' })).toBe(400)
  arrived.length = 0
})
