import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { SmallDisk } from './testing/chaos/small-disk.ts'
import { expectVerified } from './testing/verified.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-full-log-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

test(
  'a log that would fill its disk while the warehouse is full leaves room for the commits that empty it, and begins anew after them',
  { timeout: 300_000 },
  async (context) => {
    const { client, connectionString } = await postgres.createDatabase()
    const stateDir = join(directory, 'state')
    const stateDisk = SmallDisk.mount('state', stateDir, 48)
    const warehouseDisk = SmallDisk.mount('warehouse', join(directory, 'warehouse'), 512)
    if (!stateDisk.isMounted || !warehouseDisk.isMounted) return context.skip()
    await client.query(`CREATE TABLE items (id int PRIMARY KEY, n int, text text); CREATE TABLE others (id int PRIMARY KEY);
      INSERT INTO items SELECT i, 0, '' FROM generate_series(1, 1000) i`)
    const args = ['--source', connectionString, '--state-dir', stateDir, '--warehouse', warehouseDisk.directory]
    let backend = await BackendProcess.start(args)
    try {
      await backend.wait({ iceberg: true })
      await warehouseDisk.fill()
      const write = async (round: number) => {
        await client.query(
          `UPDATE items SET n = n + 1, text = repeat(md5((id + ${round})::text), 250); INSERT INTO others VALUES (${round})`,
        )
      }
      // 80 MB of changes.
      for (let round = 0; round < 10; round++) await write(round)
      await backend.wait()
      const log = async () => (await backend.status()).log.reason
      await expect.poll(log).toMatch(/^no room to write .*changelog.* are kept for the commits .*changeLog\.minFreeBytes/)
      await expect.poll(async () => (await backend.table('public.items')).reason).toMatch(/^STORE_FULL /)
      await backend.stop('SIGKILL')
      await warehouseDisk.free()
      backend = await BackendProcess.start(args)
      for (let round = 10; round < 14; round++) await write(round)
      await backend.wait({ iceberg: true })
      // It begins anew with a transaction that comes after all is in Iceberg.
      let round = 14
      await expect
        .poll(async () => {
          await write(round++)
          await backend.wait({ iceberg: true })
          return log()
        })
        .toBeNull()
      await backend.wait({ iceberg: true })
      await expectVerified(backend.url, directory)
      const { rows } = await client.query<{ sum: string }>(
        `SELECT count(*) || ':' || sum(n) || ':' || md5(string_agg(text, '' ORDER BY id)) AS sum FROM items`,
      )
      expect(await backend.query(`SELECT count(*) || ':' || sum(n) || ':' || md5(string_agg(text, '' ORDER BY id)) FROM items`)).toEqual([
        [rows[0].sum],
      ])
    } finally {
      await backend.stop('SIGKILL')
      stateDisk.unmount()
      warehouseDisk.unmount()
    }
  },
)

test('a log whose disk has less room than changeLog.maxBytes is emptied before it has taken that', async (context) => {
  const { client, connectionString } = await postgres.createDatabase()
  const stateDir = join(directory, 'small')
  const disk = SmallDisk.mount('state', stateDir, 48)
  if (!disk.isMounted) return context.skip()
  await client.query(`CREATE TABLE items (id int PRIMARY KEY, text text); INSERT INTO items SELECT i, '' FROM generate_series(1, 500) i`)
  const args = ['--source', connectionString, '--state-dir', stateDir, '--warehouse', join(directory, 'roomy')]
  // Nothing is committed for its time.
  const backend = await BackendProcess.start(args, { MOONLINK_FLUSH_INTERVAL_MS: '1h', MOONLINK_CHANGE_LOG_SEGMENT_BYTES: '1MiB' })
  try {
    const log = async () => (await backend.status()).log
    // 60 MB of changes.
    for (let round = 0; round < 15; round++) {
      await client.query(`UPDATE items SET text = repeat(md5((id + ${round})::text), 250)`)
      await backend.wait()
      await expect.poll(async () => (await log()).bytes).toBeLessThan(20_000_000)
      expect((await log()).reason).toBeNull()
    }
    await expectVerified(backend.url, directory)
  } finally {
    await backend.stop('SIGKILL')
    disk.unmount()
  }
})
