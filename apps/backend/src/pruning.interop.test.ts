import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { changeDdlTriggers } from '@moonlink/pg-source'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { Dice } from './testing/oracle/dice.ts'
import { boundedColumns, type BoundedColumn } from './testing/pruning/columns.ts'
import {
  asPyIceberg,
  duckdb,
  leavesOf,
  postgres as postgresDialect,
  randomPredicate,
  spark,
  toSql,
  type Predicate,
} from './testing/pruning/predicate.ts'
import { readWhere, type Answer, type PruningReader } from './testing/pruning/readers.ts'

/**
 * Readers leave out files and row groups whose bounds and counts say that no row of them can be meant. Random predicates over random tables of many small files:
 * each reader must find the rows that Postgres finds.
 */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-pruning-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const setting = (name: string, fallback: number) => Number(process.env[`MOONLINK_PRUNING_${name}`] ?? fallback)
const SEED = setting('SEED', 20_261_129)
const RUNS = setting('RUNS', 2)
const PREDICATES = setting('PREDICATES', 60)
const BATCHES = 10

interface Client {
  query(sql: string): Promise<{ rows: { id: number }[] }>
}

/** A random table, and what its columns have held. */
class PrunedTable {
  columns: readonly BoundedColumn[] = boundedColumns
  readonly known = new Map<string, string[]>()
  readonly name: string
  readonly #dice: Dice
  #rows = 0

  constructor(name: string, dice: Dice) {
    this.name = name
    this.#dice = dice
  }

  get definition(): string {
    return `CREATE TABLE ${this.name} (id int PRIMARY KEY, ${this.columns.map(({ name, type }) => `${name} ${type}`).join(', ')})`
  }

  /** A few rows that have something in common, as one file gets them. */
  insert(): string {
    const dice = this.#dice
    const count = dice.between(1, 6)
    const values = this.columns.map((column) => {
      const share = dice.next() / 2 ** 32
      const pool = Array.from({ length: share < 0.1 ? 0 : share < 0.3 ? 1 : share < 0.6 ? 2 : count }, () => column.value(dice))
      return Array.from({ length: count }, () => {
        const value = pool.length === 0 || (share > 0.2 && dice.chance(0.15)) ? null : dice.pick(pool)
        if (value !== null) this.known.set(column.name, [...(this.known.get(column.name) ?? []), value])
        return value === null ? 'NULL' : postgresDialect.literal(column, value)
      })
    })
    const rows = Array.from({ length: count }, (_, row) => `(${[++this.#rows, ...values.map((of) => of[row])].join(', ')})`)
    return `INSERT INTO ${this.name} VALUES ${rows.join(', ')}`
  }

  /** Columns that older files hold as another type, or not at all. */
  evolve(): string {
    const promoted: Readonly<Record<string, Partial<BoundedColumn>>> = {
      i: { type: 'int8', kind: 'long' },
      f: { type: 'float8', kind: 'double' },
      n9: { type: 'numeric(11,2)' },
    }
    const added = ['i', 't', 'day'].map((like) => ({ ...boundedColumns.find(({ name }) => name === like)!, name: `added_${like}` }))
    const bare = { ...added[0], name: 'bare' }
    const defaults: Readonly<Record<string, string>> = { added_i: '7', added_t: 'm', added_day: '19000' }
    this.columns = [...this.columns.map((column) => ({ ...column, ...promoted[column.name] })), ...added, bare]
    for (const [name, value] of Object.entries(defaults)) this.known.set(name, [value])
    const changes = [
      ...Object.entries(promoted).map(([name, { type }]) => `ALTER ${name} TYPE ${type}`),
      ...added.map((column) => `ADD ${column.name} ${column.type} DEFAULT ${postgresDialect.literal(column, defaults[column.name])}`),
      `ADD bare int`,
    ]
    return changes.map((change) => `ALTER TABLE ${this.name} ${change}`).join('; ')
  }

  predicates(count: number): Predicate[] {
    return Array.from({ length: count }, () => randomPredicate(this.columns, this.known, this.#dice))
  }
}

const valuesOf = (predicate: Predicate) =>
  leavesOf(predicate).flatMap((leaf) => ('values' in leaf ? leaf.values : 'value' in leaf ? [leaf.value] : []))
const ORDERED = ['<', '<=', '>', '>=']
/** Spark orders UUIDs of a dictionary as two signed numbers (apache/iceberg#14216). */
const ordersUuids = (predicate: Predicate) => leavesOf(predicate).some(({ column, op }) => column.kind === 'uuid' && ORDERED.includes(op))
const ZEROS = ['0', '-0']
/**
 * PyIceberg takes infinity for a number that a float can't hold, and compares a date that files lack with a number; Arrow orders no UUIDs, and to it -0 is none of a list
 * that has 0.
 */
const isBeyondPyIceberg = (predicate: Predicate) =>
  valuesOf(predicate).some((value) => /NaN|Infinity/.test(value)) ||
  leavesOf(predicate).some((leaf) => {
    const { kind, name } = leaf.column
    const isFloat = kind === 'float' || kind === 'double'
    return kind === 'uuid' || name === 'added_day' || (isFloat && 'values' in leaf && leaf.values.some((value) => ZEROS.includes(value)))
  })

/** What each reader is asked, and what that is in Postgres. */
const readers: Readonly<
  Record<
    PruningReader,
    { fits: (predicate: Predicate) => boolean; asked: (predicate: Predicate) => unknown; expected: (predicate: Predicate) => string }
  >
> = {
  duckdb: { fits: () => true, asked: (predicate) => toSql(predicate, duckdb), expected: (predicate) => toSql(predicate, postgresDialect) },
  spark: {
    fits: (predicate) => !ordersUuids(predicate),
    asked: (predicate) => toSql(predicate, spark),
    expected: (predicate) => toSql(predicate, postgresDialect),
  },
  pyiceberg: {
    fits: (predicate) => !isBeyondPyIceberg(predicate),
    asked: (predicate) => predicate,
    expected: asPyIceberg,
  },
}

async function expectedRows(client: Client, table: string, sql: string): Promise<number[]> {
  const { rows } = await client.query(`SELECT id FROM ${table} WHERE ${sql}`)
  return rows.map(({ id }) => id).sort((a, b) => a - b)
}

test('readers that leave out files by their bounds find the rows that Postgres finds', { timeout: 36_000_000 }, async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query('SET timezone = UTC')
  await changeDdlTriggers(connectionString, 'install')
  const tables = Array.from({ length: RUNS }, (_, run) => new PrunedTable(`pruned_${run}`, new Dice(SEED + run)))
  for (const { definition } of tables) await client.query(definition)
  const backend = await BackendProcess.start(['--source', connectionString, '--state-dir', join(directory, 'state')], {
    MOONLINK_FLUSH_INTERVAL_MS: '1h',
    MOONLINK_COMPACTION_ENABLED: 'false',
  })
  const wrong: string[] = []
  try {
    for (let batch = 0; batch < BATCHES; batch++) {
      for (const [run, table] of tables.entries()) {
        if (batch === BATCHES / 2 && run % 2 === 1) await client.query(table.evolve())
        await client.query(table.insert())
      }
      await backend.wait({ iceberg: true })
    }
    for (const { name } of tables) await client.query(`DELETE FROM ${name} WHERE id % 7 = 3; UPDATE ${name} SET b = NOT b WHERE id % 5 = 0`)
    await backend.wait({ iceberg: true })
    for (const table of tables) {
      const { metadataLocation, reason } = await backend.table(`public.${table.name}`)
      expect(reason).toBeNull()
      const predicates = table.predicates(PREDICATES)
      for (const [reader, { asked, expected, fits }] of Object.entries(readers) as [PruningReader, (typeof readers)[PruningReader]][]) {
        const fitting = predicates.filter(fits)
        const answers = await readWhere(reader, metadataLocation, fitting.map(asked), directory)
        for (const [index, predicate] of fitting.entries()) {
          const rows: Answer = await expectedRows(client, table.name, expected(predicate))
          if (JSON.stringify(answers[index]) !== JSON.stringify(rows))
            wrong.push(
              `${table.name}, ${reader}: ${expected(predicate)}: ${JSON.stringify(answers[index])} and not ${JSON.stringify(rows)}`,
            )
        }
      }
    }
  } finally {
    await backend.stop()
  }
  expect(wrong, `MOONLINK_PRUNING_SEED=${SEED}`).toEqual([])
})
