import { ChangeOp, valueAt, type ChangeBatch, type ColumnBatch, type Value } from '@moonlink/core'
import { withPostgres } from '@moonlink/testkit'
import * as fc from 'fast-check'
import type pg from 'pg'
import { beforeAll, describe, expect, it } from 'vitest'
import { PgoutputDecoder } from './pgoutput-decoder.ts'
import type { ColumnSpec } from './reference-encoder.test.support.ts'
import { mirror } from './test-tables.test.support.ts'

const spec: ColumnSpec[] = [
  { name: 'id', oid: 23, isKey: true },
  { name: 'region', oid: 25, isKey: true },
  { name: 'n', oid: 1700, typmod: ((12 << 16) | 2) + 4 },
  { name: 'big', oid: 25 },
]
const mirrors = {
  keyed: mirror('keyed', spec),
  full: mirror('full', spec),
  keyless: mirror(
    'keyless',
    spec.map((column) => ({ ...column, isKey: false })),
  ),
}
type Table = keyof typeof mirrors
const tables = Object.keys(mirrors) as Table[]

/** A table rebuilt from its changes, in the simplest way: a list of rows. */
class Replica {
  rows: Value[][] = []
  updates = 0
  moves = 0
  unchangedCells = 0
  /** Changes applied whose transaction has not ended. */
  openChanges = 0
  private readonly identifiers: readonly number[]

  constructor(identifiers: readonly number[]) {
    this.identifiers = identifiers
  }

  apply({ ops, rows, old, unchanged, marks }: ChangeBatch): void {
    this.openChanges = ops.length - (marks.changeCounts.at(-1) ?? -this.openChanges)
    this.updates += ops.filter((op) => op === ChangeOp.update).length
    this.moves += ops.filter((op) => op === ChangeOp.updateOld).length
    this.unchangedCells += unchanged.reduce((sum, cells) => sum + cells.rows.length, 0)
    let row = 0
    let before = 0
    for (const op of ops) {
      const fresh = op === ChangeOp.delete ? null : cellsOf(rows, row++)
      const gone = op === ChangeOp.updateOld || op === ChangeOp.delete ? cellsOf(old, before++) : null
      const replaced = op === ChangeOp.insert ? null : this.remove(gone ?? this.identifiers.map((index) => fresh![index]!))
      if (!fresh) continue
      for (const cell of unchanged) if (cell.rows.includes(row - 1)) fresh[cell.column] = replaced![cell.column]!
      this.rows.push(fresh)
    }
  }

  private remove(identity: readonly Value[]): Value[] {
    const at = this.rows.findIndex((row) => identity.every((value, index) => row[this.identifiers[index] ?? index] === value))
    expect(at, `a row with identity ${identity.join()}`).toBeGreaterThanOrEqual(0)
    return this.rows.splice(at, 1)[0]
  }
}

const cellsOf = (batch: ColumnBatch, row: number): Value[] => batch.columns.map((column) => valueAt(column, row))

const statement = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('insert' as const), id: fc.nat(12), n: fc.nat(99_999), big: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('update' as const), id: fc.nat(12), n: fc.nat(99_999), big: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('move' as const), id: fc.nat(12), n: fc.nat(12), big: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('delete' as const), id: fc.nat(12), n: fc.constant(0), big: fc.boolean() }) },
)

type Statement = [Table, { kind: 'insert' | 'update' | 'move' | 'delete'; id: number; n: number; big: boolean }]

/** What must not be left to chance: a key that moves, a large value that is not sent, both to rows of earlier transactions. */
const hard = [
  { commit: true, statements: tables.map((table): Statement => [table, { kind: 'insert', id: 1, n: 7, big: true }]) },
  {
    commit: true,
    statements: tables.flatMap((table): Statement[] => [
      [table, { kind: 'update', id: 1, n: 8, big: false }],
      [table, { kind: 'move', id: 1, n: 2, big: false }],
      [table, { kind: 'update', id: 2, n: 9, big: false }],
    ]),
  },
]

/** `big` changes the large value, too, which is stored out of line; otherwise an update leaves it unsent. */
function sqlOf(...[table, { kind, id, n, big }]: Statement): string {
  const large = `(SELECT string_agg(md5((${n} + i)::text), '') FROM generate_series(1, 200) i)`
  switch (kind) {
    case 'insert':
      return `INSERT INTO ${table} SELECT ${id}, 'eu', ${n} / 100.0, ${large} WHERE NOT EXISTS (SELECT FROM ${table} WHERE id = ${id})`
    case 'update':
      return `UPDATE ${table} SET n = ${n} / 100.0${big ? `, big = ${large}` : ''} WHERE id = ${id}`
    case 'move':
      return `UPDATE ${table} SET id = ${n} WHERE id = ${id} AND NOT EXISTS (SELECT FROM ${table} WHERE id = ${n})`
    case 'delete':
      return big ? `DELETE FROM ${table} WHERE id = ${id}` : `SAVEPOINT s; DELETE FROM ${table} WHERE id = ${id}; ROLLBACK TO s`
  }
}

const server = withPostgres()

describe('random transactions on a real Postgres', () => {
  let client: pg.Client
  beforeAll(async () => {
    client = (await server.createDatabase()).client
    for (const table of tables) {
      const key = table === 'keyless' ? '' : ', PRIMARY KEY (id, region)'
      await client.query(`CREATE TABLE ${table === 'full' ? '"full"' : table} (id int, region text, n numeric(12,2), big text${key})`)
      await client.query(`ALTER TABLE "${table}" ALTER big SET STORAGE EXTERNAL`)
    }
    await client.query(`ALTER TABLE "full" REPLICA IDENTITY FULL; ALTER TABLE keyless REPLICA IDENTITY FULL`)
    await client.query(`CREATE PUBLICATION p FOR ALL TABLES`)
    await client.query(`SELECT pg_create_logical_replication_slot('s', 'pgoutput')`)
  })

  it.each(['true', 'false'])('rebuild every table (binary %s)', async (binary) => {
    const transaction = fc.record({
      commit: fc.boolean(),
      statements: fc.array(fc.tuple(fc.constantFrom(...tables), statement), { minLength: 1, maxLength: 8 }),
    })
    const replicas = new Map(tables.map((table) => [table, new Replica(table === 'keyless' ? [] : [0, 1])]))
    for (const table of tables) await client.query(`DELETE FROM "${table}"`)
    await client.query(
      `SELECT count(*) FROM pg_logical_slot_get_binary_changes('s', NULL, NULL, 'proto_version', '1', 'publication_names', 'p')`,
    )
    await fc.assert(
      fc.asyncProperty(
        fc.array(transaction, { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 20 }),
        async (transactions, takeEvery) => {
          for (const { commit, statements } of transactions) {
            const body = statements.map(([table, change]) => sqlOf(table, change).replaceAll(/\bfull\b/g, '"full"'))
            await client.query(`BEGIN; ${body.join('; ')}; ${commit ? 'COMMIT' : 'ROLLBACK'}`)
          }
          const decoder = new PgoutputDecoder({
            resolve: ({ name }) => mirrors[name as Table] ?? null,
            openTransactionBytes: takeEvery % 3 === 0 ? 0 : 2000,
          })
          const { rows } = await client.query<{ data: Buffer }>(
            `SELECT data FROM pg_logical_slot_get_binary_changes('s', NULL, NULL, 'proto_version', '1', 'publication_names', 'p', 'binary', $1)`,
            [binary],
          )
          const take = () => {
            for (const event of decoder.take()) {
              if (event.kind === 'batch') replicas.get(event.batch.table.name as Table)!.apply(event.batch)
              else expect(event.kind).toBe('watermark')
            }
          }
          rows.forEach(({ data }, index) => {
            decoder.feed(Buffer.concat([Buffer.from('w'), Buffer.alloc(24), data]))
            if (index % takeEvery === 0) take()
          })
          take()
          for (const table of tables) {
            const expected = await client.query<Value[]>({
              text: `SELECT id, region, (n * 100)::int8::text, big FROM "${table}" ORDER BY id`,
              rowMode: 'array',
            })
            const rebuilt = replicas.get(table)!.rows.map(([id, region, n, big]) => [id, region, String(n), big])
            expect(rebuilt.sort((a, b) => Number(a[0]) - Number(b[0]))).toEqual(expected.rows)
          }
        },
      ),
      { numRuns: 60, examples: [[hard, 3]] },
    )
    const { keyed, full, keyless } = Object.fromEntries(replicas) as Record<Table, Replica>
    for (const replica of [keyed, full]) expect(Math.min(replica.updates, replica.moves)).toBeGreaterThan(0)
    expect(keyless.moves).toBeGreaterThan(0)
    expect(keyed.unchangedCells).toBeGreaterThan(0)
    expect(full.unchangedCells + keyless.unchangedCells).toBe(0)
  })
})
