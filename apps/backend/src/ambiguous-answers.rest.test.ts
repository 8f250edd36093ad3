import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import type { Client } from 'pg'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { answerFaults, HttpProxy, type AnswerFault, type LateRequest, type ProxiedRequest } from './testing/chaos/http-proxy.ts'
import { read } from './testing/readers.ts'
import { s3Environment, serverSetting } from './testing/s3-environment.ts'
import { verified } from './testing/verified.ts'

/**
 * A catalog and an object store whose answers get lost, come too late, or say that they failed, while what they were asked for happens: at once, or long after the
 * client has given up. Nothing may be lost, and nothing be there twice.
 */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-ambiguous-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const { bucket, env: s3 } = s3Environment()
const { AWS_ENDPOINT_URL: s3Uri, AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey } = s3
const restUri = serverSetting('MOONLINK_TEST_REST_URI')
const environment = {
  ...s3,
  MOONLINK_CATALOG_TIMEOUT_MS: '1s',
  MOONLINK_S3_TIMEOUT_MS: '1s',
  MOONLINK_FLUSH_INTERVAL_MS: '100ms',
  MOONLINK_COMPACTION_MIN_FILES: '2',
  MOONLINK_EXPIRY_INTERVAL_MS: '300ms',
  MOONLINK_EXPIRY_MAX_AGE_MS: '0',
  MOONLINK_EXPIRY_MIN_SNAPSHOTS: '2',
}

const catalogCommits = ['create', 'flush', 'compaction', 'expiry'] as const

/** Which commit a request to the REST catalog asks for. */
function commitIn({ body, method }: ProxiedRequest): (typeof catalogCommits)[number] | null {
  if (method !== 'POST') return null
  if (body.includes('"assert-create"')) return 'create'
  if (body.includes('"remove-snapshots"')) return 'expiry'
  if (/"operation" ?: ?"replace"/.test(body)) return 'compaction'
  return body.includes('"add-snapshot"') && body.includes('"moonlink.first-change-lsn"') ? 'flush' : null
}

const storeWrites = ['data', 'vectors', 'list', 'metadata'] as const

/** What a request to the store writes, where the catalog is in it: the metadata file is the commit. */
function writeIn({ method, path }: ProxiedRequest): (typeof storeWrites)[number] | null {
  if (method !== 'PUT' || !path.includes('/ambiguous')) return null
  if (/metadata\.json/.test(path)) return 'metadata'
  if (path.includes('.parquet')) return 'data'
  if (path.includes('.puffin')) return 'vectors'
  return path.includes('.avro') ? 'list' : null
}

/** Each kind of request meets the fault twice, the second time after some that went well. */
function twiceEach<T extends string>(
  proxy: HttpProxy,
  kinds: readonly T[],
  kindOf: (request: ProxiedRequest) => T | null,
  fault: AnswerFault,
) {
  const seen = new Map<T, number>(kinds.map((kind) => [kind, 0]))
  proxy.fault = (request) => {
    const kind = kindOf(request)
    if (kind === null) return null
    seen.set(kind, seen.get(kind)! + 1)
    return [1, 3].includes(seen.get(kind)!) ? fault : null
  }
  return () => kinds.every((kind) => seen.get(kind)! >= (kind === 'create' ? 1 : 3))
}

async function change(client: Client, table: string): Promise<void> {
  await client.query(`INSERT INTO ${table} (note) SELECT md5(random()::text) FROM generate_series(1, 50)`)
  await client.query(`UPDATE ${table} SET note = note || '!' WHERE id % 7 = 0; DELETE FROM ${table} WHERE id % 11 = 3`)
}

/** Changes the source until every fault was met, and whatever was late has come. */
async function play(client: Client, table: string, backend: BackendProcess, proxy: HttpProxy, isDone: () => boolean): Promise<void> {
  const late: LateRequest[] = []
  while (!isDone()) {
    await change(client, table)
    await backend.wait({ iceberg: true })
    late.push(...(await proxy.deliverLate()))
  }
  proxy.fault = () => null
  await change(client, table)
  await backend.wait({ iceberg: true })
  // Something else has taken the place that a commit was meant for; what is no commit may be written over with the same.
  const isCommit = (request: LateRequest) => commitIn(request) !== null || writeIn(request) === 'metadata'
  expect(late.filter((request) => isCommit(request) && request.status < 400).map(({ path }) => path)).toEqual([])
}

async function expectEqual(backend: BackendProcess, table: string): Promise<void> {
  expect(await backend.table(table)).toMatchObject({ state: 'streaming', reason: null })
  const result = await verified(backend.url, directory, table)
  expect(result, backend.said).toMatchObject({ status: 0, stdout: expect.stringContaining('equal') as string })
  expect(await backend.stop()).toBe(0)
}

async function createTable(client: Client): Promise<string> {
  const schema = `ambiguous_${randomBytes(4).toString('hex')}`
  await client.query(`CREATE SCHEMA ${schema}; CREATE TABLE ${schema}.t (id bigserial PRIMARY KEY, note text)`)
  return `${schema}.t`
}

test.each(answerFaults)('answers of the catalog that are %s', async (fault) => {
  const { client, connectionString } = await postgres.createDatabase()
  const table = await createTable(client)
  const proxy = await HttpProxy.start(restUri)
  const isDone = twiceEach(proxy, catalogCommits, commitIn, fault)
  const warehouse = `s3://${bucket}/${table}`
  const args = ['--source', connectionString, '--state-dir', join(directory, `catalog-${fault}`), '--warehouse', warehouse]
  const catalog = ['--set', 'catalog.kind=rest', '--set', `catalog.uri=${proxy.uri}`]
  const backend = BackendProcess.launch([...args, ...catalog], { ...environment, AWS_ENDPOINT_URL: s3Uri })
  try {
    await backend.ready()
    await play(client, table, backend, proxy, isDone)
    const s3 = { 's3.endpoint': s3Uri, 's3.access-key-id': accessKey, 's3.secret-access-key': secretKey, 's3.region': 'us-east-1' }
    const properties = Object.entries(s3).flatMap(([key, value]) => ['--prop', `${key}=${value}`])
    const metadata = join(directory, `${fault}.json`)
    const [namespace, name] = table.split('.')
    const loaded = (await (await fetch(`${restUri}/v1/namespaces/${namespace}/tables/${name}`)).json()) as { metadata: unknown }
    writeFileSync(metadata, JSON.stringify(loaded.metadata))
    const { checksum, row_count } = await read('pg_read', ['--dsn', connectionString, '--schema-from', metadata, table])
    expect(await read('pyiceberg_read', ['--uri', restUri, ...properties, table])).toMatchObject({ checksum, row_count })
    await expectEqual(backend, table)
  } finally {
    await backend.stop('SIGKILL')
    await proxy.close()
  }
})

test.each(answerFaults)('answers of the object store that are %s', async (fault) => {
  const { client, connectionString } = await postgres.createDatabase()
  const table = await createTable(client)
  const proxy = await HttpProxy.start(s3Uri)
  const isDone = twiceEach(proxy, storeWrites, writeIn, fault)
  const warehouse = `s3://${bucket}/ambiguous-${table}`
  const args = ['--source', connectionString, '--state-dir', join(directory, `store-${fault}`), '--warehouse', warehouse]
  const backend = BackendProcess.launch(args, { ...environment, AWS_ENDPOINT_URL: proxy.uri })
  try {
    await backend.ready()
    await play(client, table, backend, proxy, isDone)
    await expectEqual(backend, table)
  } finally {
    await backend.stop('SIGKILL')
    await proxy.close()
  }
})
