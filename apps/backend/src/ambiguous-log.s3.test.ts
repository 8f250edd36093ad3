import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import type { Client } from 'pg'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { HttpProxy, requestFaults, type ProxiedRequest, type RequestFault } from './testing/chaos/http-proxy.ts'
import { s3Environment } from './testing/s3-environment.ts'
import { verified } from './testing/verified.ts'

/**
 * A mirror with its log, its lease and its table in S3, of whose requests some of each kind get lost, or their answers, or come too late, at a start, amid changes and while one
 * backend takes over from another: killed, then stopped. Nothing may be lost or be there twice, nobody may read the past, and all goes on by itself.
 */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-ambiguous-log-'))
const closing: (() => Promise<unknown>)[] = []
afterAll(async () => {
  for (const close of closing) await close()
  rmSync(directory, { recursive: true, force: true })
})

const { bucket, env: s3 } = s3Environment()
const environment = {
  ...s3,
  MOONLINK_CHANGE_LOG_KIND: 'store',
  MOONLINK_CHANGE_LOG_SYNC_INTERVAL_MS: '100ms',
  MOONLINK_CHANGE_LOG_SEGMENT_BYTES: '64KiB',
  MOONLINK_S3_TIMEOUT_MS: '1s',
  MOONLINK_STANDBY_RENEW_INTERVAL_MS: '200ms',
  MOONLINK_STANDBY_TAKEOVER_MS: '3s',
  MOONLINK_FLUSH_INTERVAL_MS: '300ms',
  MOONLINK_COMPACTION_MIN_FILES: '3',
}

/** What a request to the store does, and to what. */
function kindOf({ body, method, path }: ProxiedRequest): string {
  const url = new URL(path, 'http://store')
  const isList = method === 'GET' && url.searchParams.has('list-type')
  const key = decodeURIComponent(isList ? url.searchParams.get('prefix')! : url.pathname)
  const place = /changelog\/(lease|state)\//.exec(key)?.[1] ?? (key.includes('changelog') ? 'segment' : tableFileOf(key))
  if (method === 'PUT' && place === 'lease')
    return body.includes('"isReleased":true') ? 'release' : body.includes('"renewals":0') ? 'claim' : 'renew'
  return `${isList ? 'list' : method.toLowerCase()} ${place}`
}

function tableFileOf(key: string): string {
  return /\.(parquet|puffin|avro|metadata\.json)/.exec(key)?.[1] ?? 'other'
}

/** What each scenario is sure to ask of the store. */
const ASKED = [
  'claim',
  'renew',
  'release',
  'get lease',
  'list lease',
  'delete lease',
  'put segment',
  'get segment',
  'list segment',
  'delete segment',
]
const STORED = ['put state', 'get state', 'list state', 'put parquet', 'put puffin', 'put avro', 'put metadata.json', 'get metadata.json']

/** Two of them at a time: the second one befalls what follows the first, which mostly is the same request, tried again. */
const pairs: readonly (readonly [RequestFault, RequestFault])[] = [
  ['lost', 'refused'],
  ['failed', 'unsent'],
  ['slow', 'cut'],
  ['late', 'unanswered'],
]

test('every fault is in a pair', () => {
  expect(pairs.flat().toSorted()).toEqual([...requestFaults].toSorted())
})

/** The first two requests of each kind meet the faults, and two after some that went well. */
class Faults {
  readonly met = new Map<string, number>()
  private readonly pair: readonly [RequestFault, RequestFault]

  constructor(pair: readonly [RequestFault, RequestFault]) {
    this.pair = pair
  }

  choose(request: ProxiedRequest): RequestFault | null {
    const kind = kindOf(request)
    const count = (this.met.get(kind) ?? 0) + 1
    this.met.set(kind, count)
    return new Map([1, 2, 6, 7].map((at, index) => [at, this.pair[index % 2]])).get(count) ?? null
  }

  hasMet(kinds: readonly string[], count: number): boolean {
    return kinds.every((kind) => (this.met.get(kind) ?? 0) >= count)
  }
}

async function change(client: Client): Promise<void> {
  await client.query(`INSERT INTO t (note) SELECT md5(random()::text) FROM generate_series(1, 50)`)
  await client.query(`UPDATE t SET note = note || '!' WHERE id % 7 = 0; DELETE FROM t WHERE id % 11 = 3`)
}

/** Asks every backend for the newest row, again and again: none that answers may be behind what one has answered before it was asked. */
class Reader {
  private isOver = false
  private newest = 0n
  private readonly running: Promise<void>[] = []
  readonly past: string[] = []

  follow(backend: BackendProcess): void {
    this.running.push(this.read(backend))
  }

  async stop(): Promise<void> {
    this.isOver = true
    await Promise.all(this.running)
  }

  private async read(backend: BackendProcess): Promise<void> {
    while (!this.isOver && backend.child.exitCode === null && backend.child.signalCode === null) {
      const known = this.newest
      const found = await backend.query('SELECT max(id) FROM public.t').catch(() => null)
      const [value] = found?.[0] ?? [null]
      if (value !== null && BigInt(value as number) < known) this.past.push(`${value as number} after ${known}`)
      if (value !== null && BigInt(value as number) > this.newest) this.newest = BigInt(value as number)
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
}

test.concurrent.each(pairs)('requests of each kind that are %s, and then %s', async (...pair) => {
  const fault = pair.join('-')
  const { client, connectionString } = await postgres.createDatabase()
  await client.query('CREATE TABLE t (id bigserial PRIMARY KEY, note text)')
  const warehouse = `s3://${bucket}/ambiguous-log-${randomBytes(4).toString('hex')}`
  const faults = new Faults(pair)
  const proxy = await HttpProxy.start(s3.AWS_ENDPOINT_URL)
  closing.push(() => proxy.close())
  proxy.fault = (request) => faults.choose(request)
  const reader = new Reader()
  const launch = (name: string) => {
    const args = ['--source', connectionString, '--state-dir', join(directory, fault, name), '--warehouse', warehouse, '--standby']
    const backend = BackendProcess.launch(args, { ...environment, AWS_ENDPOINT_URL: proxy.uri })
    closing.push(() => backend.stop('SIGKILL'))
    return backend
  }
  const first = launch('first')
  await first.ready()
  reader.follow(first)
  while (!faults.hasMet(['renew', 'put segment', 'put puffin', 'put parquet', 'put metadata.json'], 7)) {
    await change(client)
    await first.wait({ iceberg: true })
    await proxy.deliverLate()
  }
  const second = launch('second')
  await second.isStandby()
  await change(client)
  await first.wait()
  await first.stop('SIGKILL')
  await change(client)
  await second.ready()
  reader.follow(second)
  await proxy.deliverLate()
  const third = launch('third')
  await third.isStandby()
  await change(client)
  await second.wait()
  expect(await second.stop(), second.said).toBe(0)
  await third.ready()
  reader.follow(third)
  await proxy.deliverLate()
  await change(client)
  await third.wait({ iceberg: true })
  await reader.stop()
  expect(reader.past).toEqual([])
  expect([...faults.met.keys()]).toEqual(expect.arrayContaining([...ASKED, ...STORED]))
  const result = await verified(third.url, directory, 'public.t')
  expect(result, third.said).toMatchObject({ status: 0, stdout: expect.stringContaining('equal') as string })
  for (const name of ['first', 'second', 'third'])
    expect(readFileSync(join(directory, fault, name, 'moonlink.log'), 'utf8')).not.toMatch(/made equal|copied again|is damaged|is missing/)
  expect(await third.stop()).toBe(0)
})
