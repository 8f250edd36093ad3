import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { moonlink } from './testing/command-line.ts'
import { SchemaHistory } from './testing/schema-history.ts'
import { expectVerified } from './testing/verified.ts'

/** Types that are made and altered in the transactions that use them. */
const postgres = withPostgres({ settings: { logical_decoding_work_mem: '64kB' } })
const directory = mkdtempSync(join(tmpdir(), 'moonlink-types-altered-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const many = (from: number, values: string) => `INSERT INTO t SELECT g, ${values} FROM generate_series(${from}, ${from + 399}) g`
const transactions = [
  // A value that was added is of use before its transaction ends where the type is of that transaction, too.
  `CREATE TYPE size AS ENUM ('s'); ALTER TABLE t ADD z size; INSERT INTO t VALUES (1, 's', NULL, 's'); ALTER TYPE size ADD VALUE 'l'; UPDATE t SET z = 'l' WHERE id < 10`,
  `INSERT INTO t VALUES (2, 's', (1, 'a'), 's'); ALTER TYPE size ADD VALUE 'xl' BEFORE 'l'; INSERT INTO t VALUES (3, 'l', (2, 'b'), 'l')`,
  `INSERT INTO t VALUES (4, 'x', (3, 'c'), 'xl'); UPDATE t SET z = 'xl' WHERE id = 2`,
  `INSERT INTO t VALUES (5, 'x', (4, 'd'), 's'); ALTER TYPE pair ADD ATTRIBUTE w int; UPDATE t SET p = (5, 'e', 6) WHERE id = 5; INSERT INTO t VALUES (6, 'x', (7, 'f', 8), 's')`,
  `${many(1000, `'x', (g, 'm', g)::pair, 'l'`)}; ALTER TYPE pair ADD ATTRIBUTE u text; ${many(2000, `'x', (g, 'm', g, 'u')::pair, 's'`)}; DELETE FROM t WHERE id % 3 = 0`,
  `SAVEPOINT a; ALTER TYPE pair ADD ATTRIBUTE never int; ${many(3000, `'never', NULL, 's'`)}; ROLLBACK TO a; INSERT INTO t VALUES (7, 'kept', (1, 'k', 2, 'u'), 's')`,
]

test.for(['told', 'found'] as const)('changes of types within transactions that use them, which are %s', async (how) => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query(
    `CREATE TYPE pair AS (x int, y text); CREATE TABLE t (id int PRIMARY KEY, v text, p pair); INSERT INTO t VALUES (0, 'first', (0, 'o'))`,
  )
  if (how === 'told') expect(await moonlink(['ddl', 'install', '--source', connectionString])).toMatchObject({ status: 0, stderr: '' })
  const history = await SchemaHistory.start(client, connectionString, join(directory, how))
  const { backend } = history
  const isThere = async () => (await history.read(null).catch(() => [])).length === (await history.shown()).length
  try {
    for (const transaction of transactions) {
      await history.run(`BEGIN; ${transaction}; COMMIT`)
      if (how === 'told') continue
      await expect.poll(isThere).toBe(true)
      await expectVerified(backend.url, directory)
    }
    if (how === 'told') await history.check()
    expect(await history.shown()).toHaveLength(7 + 1 + 400 + 400 - 267 - 2)
    await expectVerified(backend.url, directory)
    await backend.stop('SIGKILL')
    await history.start()
    await expectVerified(history.backend.url, directory)
    await history.check(history.moments.length - 1)
  } finally {
    await history.backend.stop('SIGKILL')
  }
})
