import { withPostgres } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { follow, sourceState } from './harness.test.support.ts'
import { sorted } from './replica.test.support.ts'

const postgres = withPostgres()

/** One statement, on one of three tables: a single key, a composite key with a text part, and none. */
const statement = fc.oneof(
  fc
    .tuple(fc.nat(40), fc.option(fc.string({ maxLength: 8, unit: 'grapheme' }), { nil: null }))
    .map(
      ([id, text]) =>
        `INSERT INTO single VALUES (${id}, ${literal(text)}, 0) ON CONFLICT (id) DO UPDATE SET v = excluded.v, n = single.n + 1`,
    ),
  fc
    .tuple(fc.nat(40), fc.nat(40))
    .map(([from, to]) => `UPDATE single SET id = ${to} WHERE id = ${from} AND NOT EXISTS (SELECT FROM single WHERE id = ${to})`),
  fc.tuple(fc.nat(6), fc.nat(6)).map(([rest, n]) => `UPDATE single SET n = n + ${n} WHERE id % 7 = ${rest}`),
  fc.nat(6).map((rest) => `DELETE FROM single WHERE id % 7 = ${rest}`),
  fc.nat(9).map((n) => `UPDATE single SET v = repeat('${n}', 20000) WHERE id = ${n}`),
  fc.tuple(fc.nat(5), fc.nat(5)).map(([a, b]) => `INSERT INTO pair VALUES (${a}, 'k${b}', 0) ON CONFLICT DO NOTHING`),
  fc
    .tuple(fc.nat(5), fc.nat(5))
    .map(
      ([a, b]) =>
        `UPDATE pair SET b = 'k${b}' WHERE a = ${a} AND NOT EXISTS (SELECT FROM pair p WHERE p.a = ${a} AND p.b = 'k${b}') AND b = (SELECT min(b) FROM pair WHERE a = ${a})`,
    ),
  fc.nat(5).map((a) => `DELETE FROM pair WHERE a = ${a}`),
  fc.nat(3).map((x) => `INSERT INTO bag SELECT ${x}, NULLIF(n, 2)::text FROM generate_series(1, 3) n`),
  fc.nat(3).map((x) => `UPDATE bag SET y = 'again' WHERE ctid = (SELECT min(ctid) FROM bag WHERE x = ${x})`),
  fc.nat(3).map((x) => `DELETE FROM bag WHERE ctid = (SELECT max(ctid) FROM bag WHERE x = ${x})`),
  fc.constant('TRUNCATE bag'),
)

/** Statements between savepoints, each kept or rolled back. */
const transaction = fc.record({
  parts: fc.array(fc.record({ statements: fc.array(statement, { minLength: 1, maxLength: 4 }), isKept: fc.boolean() }), {
    minLength: 1,
    maxLength: 4,
  }),
  commits: fc.boolean(),
  restartsAfter: fc.integer({ min: 0, max: 9 }).map((draw) => draw === 0),
})

function literal(text: string | null): string {
  // Postgres' text holds anything but NUL; lone surrogates never leave the generator.
  return text === null ? 'NULL' : `'${text.replaceAll('\0', '').replaceAll("'", "''")}'`
}

test('random transactions, savepoints and restarts: the stream makes what SELECT shows', async () => {
  let run = 0
  await fc.assert(
    fc.asyncProperty(fc.array(transaction, { minLength: 5, maxLength: 25 }), async (transactions) => {
      const { client, connectionString } = await postgres.createDatabase()
      const tables = ['single', 'pair', 'bag']
      await client.query(`CREATE TABLE single (id int PRIMARY KEY, v text, n int); ALTER TABLE single ALTER v SET STORAGE EXTERNAL;
        CREATE TABLE pair (a int, b text, n int, PRIMARY KEY (a, b)); CREATE TABLE bag (x int, y text); ALTER TABLE bag REPLICA IDENTITY FULL`)
      const config = { connection: connectionString, slot: `random_${++run}` }
      const names = tables.map((table) => `public.${table}`)
      let following = await follow(config, names)
      try {
        for (const { parts, commits, restartsAfter } of transactions) {
          await client.query('BEGIN')
          for (const { statements, isKept } of parts) {
            await client.query('SAVEPOINT part')
            for (const sql of statements) await client.query(sql)
            await client.query(isKept ? 'RELEASE part' : 'ROLLBACK TO part')
          }
          await client.query(commits ? 'COMMIT' : 'ROLLBACK')
          if (!restartsAfter) continue
          const lsn = await following.catchUp()
          await following.close()
          following = await follow(config, names, lsn, following.replica)
        }
        await following.catchUp()
        for (const table of tables) expect(sorted(following.replica.rowsOf(`public.${table}`))).toEqual(await sourceState(client, table))
        expect(following.replica.missing).toEqual([])
        expect(following.replica.otherEvents).toEqual([])
      } finally {
        await following.source.uninstall()
        await following.close()
        await client.end()
      }
    }),
    { numRuns: 12, endOnFailure: true },
  )
})
