import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { BackendProcess, type TableReport } from './testing/backend-process.ts'
import { moonlink } from './testing/command-line.ts'
import { foundThen, keepMoment, snapshotsOf } from './testing/moments.ts'
import { readStates, type Found, type Opened, type TimeTraveller } from './testing/time-travel.ts'

/**
 * Readers that we did not write see each snapshot with the schema and the rows that Postgres had at its LSN, and the table as it is
 * now, whatever schema its files are of.
 */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-evolved-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const table = `CREATE TABLE t (id int PRIMARY KEY, name text, qty int NOT NULL, price numeric(6,2), old text, ratio real);
  INSERT INTO t SELECT g, 'n' || g, g, g / 100.0, 'old ' || g, g / 8.0 FROM generate_series(1, 3000) g`
/** A change of the schema, and changes of rows before the next one. Each is a moment of its own. */
const steps = [
  `INSERT INTO t SELECT g, NULL, g, NULL, NULL, NULL FROM generate_series(3001, 3200) g;
   UPDATE t SET qty = -qty WHERE id % 7 = 0; DELETE FROM t WHERE id % 50 = 1`,
  `ALTER TABLE t ADD note text DEFAULT 'it''s ✓', ADD rank int DEFAULT 7, ADD since date DEFAULT '2020-02-29', ADD plain boolean`,
  `INSERT INTO t (id, qty) SELECT g, g FROM generate_series(3201, 3300) g; INSERT INTO t (id, qty, note) VALUES (3301, 0, NULL);
   UPDATE t SET note = NULL WHERE id % 13 = 0; UPDATE t SET rank = id, plain = true WHERE id % 17 = 0; DELETE FROM t WHERE id % 50 = 2`,
  `ALTER TABLE t RENAME name TO title`,
  `INSERT INTO t (id, title, qty) SELECT g, 't' || g, g FROM generate_series(3401, 3500) g;
   UPDATE t SET title = title || '!' WHERE id % 11 = 0; DELETE FROM t WHERE id % 50 = 3`,
  `ALTER TABLE t ALTER id TYPE bigint, ALTER qty TYPE bigint, ALTER ratio TYPE double precision`,
  `INSERT INTO t (id, qty, ratio) SELECT g + 5000000000, g * 5000000000, g / 7.0 FROM generate_series(1, 100) g;
   UPDATE t SET qty = qty + 5000000000 WHERE id % 19 = 0; UPDATE t SET id = id + 6000000000 WHERE id % 500 = 9; DELETE FROM t WHERE id % 50 = 4`,
  `ALTER TABLE t DROP old`,
  `UPDATE t SET rank = 0 WHERE id % 23 = 0; DELETE FROM t WHERE id % 50 = 5`,
  `ALTER TABLE t ADD old int DEFAULT 9`,
  `INSERT INTO t (id, qty, old) SELECT g, g, NULL FROM generate_series(3601, 3700) g;
   UPDATE t SET old = id % 1000 WHERE id % 29 = 0; DELETE FROM t WHERE id % 50 = 6`,
  `ALTER TABLE t ALTER price TYPE numeric(20,2)`,
  `UPDATE t SET price = price * 1000000000000 WHERE id % 31 = 0; DELETE FROM t WHERE id % 50 = 7`,
  `ALTER TABLE t ALTER qty DROP NOT NULL`,
  `UPDATE t SET qty = NULL WHERE id % 37 = 0; INSERT INTO t (id) SELECT g FROM generate_series(3801, 3900) g; DELETE FROM t WHERE id % 50 = 8`,
  `BEGIN; UPDATE t SET title = 'before' WHERE id % 41 = 0; ALTER TABLE t RENAME title TO name; ALTER TABLE t RENAME note TO title;
   UPDATE t SET title = 'after' WHERE id % 43 = 0; COMMIT`,
]

let warehouse: string
let expected: Found[]
let states: Opened[]

beforeAll(async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query(`CREATE SCHEMA past; ${table}`)
  expect(await moonlink(['ddl', 'install', '--source', connectionString])).toMatchObject({ status: 0, stderr: '' })
  const stateDir = join(directory, 'state')
  warehouse = join(stateDir, 'warehouse')
  const settings = ['source.tables=public.t', 'flush.intervalMs=1h'].flatMap((setting) => ['--set', setting])
  const start = (setting: string) =>
    BackendProcess.start(['--source', connectionString, '--state-dir', stateDir, ...settings, '--set', setting])
  let newest: TableReport | undefined
  let backend = await start('compaction.enabled=false')
  try {
    const moments = [await keepMoment(client, backend, 0)]
    for (const [index, step] of steps.entries()) {
      await client.query(step)
      moments.push(await keepMoment(client, backend, index + 1))
    }
    expect(new Set(moments.map(({ snapshotId }) => snapshotId)).size).toBe(moments.length)
    expect(await backend.stop()).toBe(0)
    // Files of every schema become one of the newest.
    backend = await start('compaction.minFiles=2')
    await vi.waitUntil(async () => (newest = await backend.table('public.t')).dataFiles === 1, { timeout: 30_000, interval: 100 })
    expect(await backend.stop()).toBe(0)
    const metadata = newest!.metadataLocation
    const snapshots = snapshotsOf(metadata)
    expect(snapshots.slice(0, moments.length)).toEqual(moments.map(({ snapshotId }) => snapshotId))
    states = [
      ...snapshots.map((snapshotId): Opened => ({ metadata, snapshotId })),
      { metadata: moments.at(-1)!.metadata, snapshotId: null },
      { metadata, snapshotId: null },
    ]
    const shown = await foundThen(connectionString, moments)
    // What follows the last moment are commits of the same rows: a stop's and the compaction's.
    expected = states.map((_, index) => shown[Math.min(index, shown.length - 1)])
  } finally {
    await backend.stop('SIGKILL')
  }
})

test.each<readonly [reader: TimeTraveller, step: number]>([
  ['PyIceberg', 1],
  ['DuckDB', 1],
  // Slower to plan: the snapshots of the changes themselves, with the rows changed before each.
  ['Spark', 2],
])('%s reads the table before, across and after its changes, each snapshot with its schema', async (reader, step) => {
  const read = <T>(all: readonly T[]) => all.filter((_, index) => index % step === 0 || index >= all.length - 2)
  expect(await readStates(reader, warehouse, 'public.t', read(states))).toEqual(read(expected))
})
