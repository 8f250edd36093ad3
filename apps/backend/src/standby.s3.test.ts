import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { HttpProxy } from './testing/chaos/http-proxy.ts'
import { Load } from './testing/load.ts'
import { openS3, s3Environment } from './testing/s3-environment.ts'
import { until } from './testing/until.ts'
import { verified } from './testing/verified.ts'

/** As `standby.pg.test.ts`, with everything that a machine's death must not take in S3. */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-standby-s3-'))
const running: BackendProcess[] = []
afterAll(async () => {
  for (const backend of running) {
    await backend.stop('SIGKILL')
  }
  rmSync(directory, { recursive: true, force: true })
})

const { bucket, env: s3 } = s3Environment()
const env = { ...s3, MOONLINK_CHANGE_LOG_KIND: 'store' }

test('a machine dies: what it has in S3 is enough for its successor', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await Load.createTables(client)
  const warehouse = `s3://${bucket}/moonlink-standby-${randomBytes(4).toString('hex')}`
  const launch = async (name: string) => {
    const args = ['--source', connectionString, '--state-dir', join(directory, name), '--warehouse', warehouse, '--standby']
    const backend = BackendProcess.launch(args, env)
    running.push(backend)
    return backend
  }
  const first = await launch('first')
  await first.ready()
  const second = await launch('second')
  await second.isStandby()
  const load = new Load(connectionString)
  await load.until(60)
  await first.stop('SIGKILL')
  await second.ready()
  await load.until(60)
  await load.stop()
  await second.wait({ iceberg: true })
  const result = await verified(second.url, directory)
  expect(result, second.said).toMatchObject({ status: 0 })
  expect(result.stdout).toMatch(/public\.bag: equal.*\npublic\.items: equal.*\npublic\.still: equal/)
  expect(readFileSync(join(directory, 'second', 'moonlink.log'), 'utf8')).not.toMatch(/made equal|copied again|is damaged|is missing/)
  expect(await second.stop()).toBe(0)
})

test('a read of one that does not know that it was taken over from is to be repeated where its files are gone', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)')
  const warehouse = `s3://${bucket}/moonlink-deposed-${randomBytes(4).toString('hex')}`
  const proxy = await HttpProxy.start(s3.AWS_ENDPOINT_URL)
  const store = openS3()
  const launch = (name: string, more: Readonly<Record<string, string>>) => {
    const args = ['--source', connectionString, '--state-dir', join(directory, name), '--warehouse', warehouse, '--standby']
    const backend = BackendProcess.launch(args, {
      ...env,
      MOONLINK_STANDBY_TAKEOVER_MS: '4s',
      MOONLINK_FLUSH_INTERVAL_MS: '200ms',
      ...more,
    })
    running.push(backend)
    return backend
  }
  const dataFiles = async () => {
    const uris: string[] = []
    for await (const { uri } of store.list(`${warehouse}/public/t/data/`)) uris.push(uri)
    return uris
  }
  try {
    const first = launch('deposed', { AWS_ENDPOINT_URL: proxy.uri })
    await first.ready()
    const lsn = await first.wait({ iceberg: true })
    const files = await dataFiles()
    proxy.instead = ({ path }) => (path.includes('/changelog/lease') ? { status: 503, type: 'text/plain', body: '' } : null)
    const second = launch('successor', {
      MOONLINK_EXPIRY_INTERVAL_MS: '300ms',
      MOONLINK_EXPIRY_MAX_AGE_MS: '0',
      MOONLINK_EXPIRY_MIN_SNAPSHOTS: '1',
    })
    await second.ready()
    await until('the files to be gone', async () => {
      await client.query('DELETE FROM t; INSERT INTO t VALUES (1)')
      await second.wait({ iceberg: true })
      const left = await dataFiles()
      return !files.some((uri) => left.includes(uri))
    })
    expect(first.child.exitCode).toBeNull()
    await expect(first.query('SELECT sum(id) FROM t', lsn)).rejects.toMatchObject({ code: 'LEASE_UNCERTAIN' })
    proxy.instead = () => null
    await first.ended()
    expect(first.said).toMatch(/LEASE_LOST|OTHER_MIRROR/)
  } finally {
    await store.close()
    await proxy.close()
  }
})
