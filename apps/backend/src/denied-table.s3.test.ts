import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FileCatalog } from '@moonlink/iceberg-writer'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import { HttpProxy } from './testing/chaos/http-proxy.ts'
import { unneededFiles } from './testing/chaos/unneeded-files.ts'
import { denyPrefix, type S3Permission } from './testing/denied-prefix.ts'
import { GoodAndBad } from './testing/good-and-bad.ts'
import { openS3, s3Environment } from './testing/s3-environment.ts'
import { until } from './testing/until.ts'

/** A store whose policy lacks a permission for one table's files. */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-denied-s3-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const { bucket, env: s3 } = s3Environment()
const often = {
  MOONLINK_FLUSH_DENIED_MS: '2s',
  MOONLINK_COMPACTION_MIN_FILES: '2',
  MOONLINK_EXPIRY_INTERVAL_MS: '300ms',
  MOONLINK_EXPIRY_MAX_AGE_MS: '0',
  MOONLINK_EXPIRY_MIN_SNAPSHOTS: '2',
}

let pair: GoodAndBad
let proxy: HttpProxy
let warehouse: string

beforeEach(async () => {
  const database = await postgres.createDatabase()
  warehouse = `s3://${bucket}/denied-${randomBytes(4).toString('hex')}`
  proxy = await HttpProxy.start(s3.AWS_ENDPOINT_URL)
  pair = await GoodAndBad.create(database, directory)
})
afterEach(async () => {
  await pair.kill()
  await proxy.close()
})

const stateDir = () => join(directory, pair.database.name)
const logged = () => readFileSync(join(stateDir(), 'moonlink.log'), 'utf8')
const args = () => ['--state-dir', stateDir(), '--warehouse', warehouse]
const env = () => ({ ...s3, ...often, AWS_ENDPOINT_URL: proxy.uri })
const start = () => pair.start(args(), env())
const deny = (permission: S3Permission) => denyPrefix(proxy, `${warehouse}/public/bad/`, permission)
const allow = () => (proxy.instead = () => null)
const busy = {
  status: 503,
  type: 'application/xml',
  body: '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>',
}
/** Nothing under that is answered but so. */
const fail = (prefix: string) => {
  proxy.instead = ({ path }) => (path.startsWith(`/${bucket}/${prefix}`) ? busy : null)
}
const prefixOf = (table: string) => `${warehouse.slice(`s3://${bucket}/`.length)}/public/${table}/`
const reasonOf = async () => (await pair.state()).reason

/** All that is there is needed, once removals had their time. */
async function expectNothingLeft(): Promise<void> {
  const store = openS3()
  const catalog = new FileCatalog({ store, warehouse })
  await until('what is not needed to be removed', async () => {
    await pair.change()
    await pair.backend.wait({ iceberg: true })
    const left = await unneededFiles(store, catalog, pair.names)
    return left.filter((uri) => !uri.endsWith('version-hint.text')).length === 0
  })
  await store.close()
}

test.each([
  ['s3:PutObject', /^STORE_NOT_WRITABLE may not write s3:.*public\/bad.*allow s3:PutObject/],
  ['s3:GetObject', /^STORE_NOT_READABLE may not read s3:.*public\/bad.*allow s3:GetObject/],
  ['s3:ListBucket', /^STORE_NOT_READABLE may not read s3:.*public\/bad.*s3:ListBucket/],
] as const)('without %s a table is paused alone, over restarts, and goes on by itself once it is allowed', async (permission, reason) => {
  await start()
  await pair.change()
  await pair.backend.wait({ iceberg: true })
  deny(permission)
  await pair.changeUntilStopped()
  expect(await reasonOf()).toMatch(reason)
  await pair.slotFollows()
  expect(logged()).toMatch(/table paused/)
  allow()
  await pair.isState('streaming')
  await pair.change()
  await pair.expectEqual()
  deny(permission)
  await pair.change()
  await pair.kill()
  pair.launch(args(), env())
  await pair.isState('failed')
  expect(await reasonOf()).toMatch(reason)
  await pair.change()
  await pair.backend.wait()
  allow()
  await pair.isState('streaming')
  await pair.expectEqual()
  await expectNothingLeft()
  expect(await pair.backend.stop()).toBe(0)
})

test('without s3:DeleteObject a table goes on, and what could not be removed is once it may be, also by the next process', async () => {
  await start()
  deny('s3:DeleteObject')
  for (let round = 0; round < 5; round++) {
    await pair.change()
    await pair.expectEqual()
  }
  expect(await pair.state()).toEqual({ state: 'streaming', reason: null })
  await pair.kill()
  await start()
  await pair.change()
  await pair.expectEqual()
  allow()
  await expectNothingLeft()
  expect(await pair.backend.stop()).toBe(0)
})

test('where the whole warehouse was refused for long, no table is paused once it is allowed', async () => {
  await start()
  denyPrefix(proxy, `${warehouse}/`, 's3:PutObject')
  await until('both to be refused', async () => {
    await pair.change()
    const tables = await pair.backend.tables()
    return tables.every(({ reason }) => reason?.startsWith('STORE_NOT_WRITABLE ') === true)
  })
  const deniedAtMs = Date.now()
  await until('the patience to be over', async () => {
    await pair.change()
    return Date.now() > deniedAtMs + 4_000
  })
  allow()
  await pair.change()
  await pair.expectEqual()
  expect(logged()).not.toMatch(/table paused|made equal/)
})

test('a table whose files alone can not be read for its changes keeps the others waiting no longer than its patience, and goes on by itself', async () => {
  const { client } = pair.database
  await client.query(`ALTER TABLE bad ADD COLUMN large text; ALTER TABLE bad ALTER COLUMN large SET STORAGE EXTERNAL`)
  await client.query(`UPDATE bad SET large = repeat(id::text, 3000)`)
  await start()
  // Nobody has read the files of it yet, so that no copy of them is here.
  await pair.backend.wait({ iceberg: true })
  fail(prefixOf('bad'))
  await client.query(`UPDATE bad SET note = 'changed' WHERE id % 3 = 1`)
  await pair.change(['good'])
  await pair.backend.wait({ timeoutMs: 90_000 })
  await pair.isState('paused')
  expect(await reasonOf()).toMatch(/^STORE_UNAVAILABLE .*public\/bad.*made equal/)
  await pair.slotFollows()
  allow()
  await pair.isState('streaming')
  await pair.change()
  await pair.expectEqual()
  expect(await pair.backend.stop()).toBe(0)
})

test('a table whose first copy alone the store fails at keeps none behind it waiting, is paused, and is copied by itself', async () => {
  fail(`${prefixOf('bad')}data/`)
  pair.launch(args(), { ...env(), MOONLINK_COPY_PARALLEL_TABLES: '1' })
  await until('good to be copied', async () => (await pair.backend.table('public.good')).state === 'streaming')
  await pair.change()
  await pair.isState('paused')
  expect(await reasonOf()).toMatch(/^STORE_UNAVAILABLE .*public\/bad.*made equal/)
  await pair.slotFollows()
  allow()
  await pair.isState('streaming')
  await pair.expectEqual()
  expect(await pair.backend.stop()).toBe(0)
})
