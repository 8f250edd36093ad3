import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { BackendClient } from './client.ts'
import { verifyTables } from './verify.ts'

const verdict = (table: string, result: 'different' | 'equal') => ({
  table,
  result,
  lsn: '0/10',
  sourceRows: 1,
  mirrorRows: 1,
  differences: result === 'equal' ? [] : [{ kind: 'different', key: ['1'] }],
  moreDifferences: false,
  durationMs: 1,
  reason: null,
})
const VERDICTS = [verdict('public.a', 'different'), verdict('public.b', 'different'), verdict('public.c', 'equal')]
const COPYING = { error: { kind: 'retry', code: 'TABLE_COPYING', message: 'public.a is being copied already.', context: {} } }

let repaired: string[]
/** Finds `a` and `b` different, and can repair `b` alone. */
const backend = createServer((request, response) => {
  if (request.url === '/verify') return response.end(VERDICTS.map((line) => `${JSON.stringify(line)}\n`).join(''))
  if (request.url === '/tables/public.a/resync') return response.writeHead(503).end(JSON.stringify(COPYING))
  repaired.push(request.url!)
  return response.end('{}')
})
let client: BackendClient
let printed: string

beforeEach(async () => {
  repaired = []
  printed = ''
  await new Promise<void>((resolve) => backend.listen(0, '127.0.0.1', resolve))
  client = new BackendClient(`http://127.0.0.1:${(backend.address() as AddressInfo).port}`)
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed += String(text)
    return true
  })
})
afterEach(async () => {
  vi.restoreAllMocks()
  await new Promise((resolve) => backend.close(resolve))
})

test('a table whose repair cannot begin is reported, and those after it are compared and repaired', async () => {
  await expect(verifyTables(client, [], { repair: true })).rejects.toMatchObject({ code: 'VERIFY_FAILED' })
  expect(repaired).toEqual(['/tables/public.b/resync'])
  expect(printed).toContain('public.a: its repair could not begin: TABLE_COPYING public.a is being copied already.')
  expect(printed).toContain('public.b: DIFFERENT')
  expect(printed).toContain('public.c: equal')
})

test('the JSON of a table whose repair cannot begin says why', async () => {
  await expect(verifyTables(client, [], { json: true, repair: true })).rejects.toMatchObject({ code: 'VERIFY_FAILED' })
  const lines = printed
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { repairFailure?: string })
  expect(lines.map(({ repairFailure }) => repairFailure)).toEqual(['TABLE_COPYING public.a is being copied already.', undefined, undefined])
})
