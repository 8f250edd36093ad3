import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { changeDdlTriggers } from '@moonlink/pg-source'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { Dice } from './testing/oracle/dice.ts'
import { boundedColumns, structParts, timeColumn, type BoundedColumn } from './testing/pruning/columns.ts'
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
import { briefly, readWhere, rowGroupsOf, type Answer, type PruningReader } from './testing/pruning/readers.ts'

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
const PREDICATES = setting('PREDICATES', 30)
const BATCHES = 10
/** A little more than a row group has, so that some are of one run alone. */
const ROWS_OF_RUN = 125_000
const RUNS_OF_ROWS = 2

interface Client {
  query(sql: string): Promise<{ rows: { id: number }[] }>
}

interface PrunedOptions {
  readonly columns?: readonly BoundedColumn[]
  readonly readers?: readonly PruningReader[]
  readonly predicates?: number
}

/** A random table, and what its columns have held. */
class PrunedTable {
  columns: readonly BoundedColumn[]
  readonly known = new Map<string, string[]>()
  readonly name: string
  readonly readers: readonly PruningReader[]
  /** What makes its rows before it is mirrored; empty where it has none then. */
  filling = ''
  readonly #predicates: number
  readonly #dice: Dice
  #rows = 0

  constructor(name: string, dice: Dice, options: PrunedOptions = {}) {
    this.name = name
    this.columns = options.columns ?? [...boundedColumns, ...structParts]
    this.readers = options.readers ?? ['duckdb', 'spark', 'pyiceberg']
    this.#predicates = options.predicates ?? PREDICATES
    this.#dice = dice
  }

  definition(name = this.name): string {
    const structs = this.#structs().map(([struct]) => `${struct} pruned_${struct}`)
    return `CREATE TABLE ${name} (id int PRIMARY KEY, ${[...this.#own().map((column) => `${column.name} ${column.type}`), ...structs].join(', ')})`
  }

  #own(): readonly BoundedColumn[] {
    return this.columns.filter(({ of }) => of === undefined)
  }

  #names(): string {
    return [...this.#own().map(({ name }) => name), ...this.#structs().map(([name]) => name)].join(', ')
  }

  #structs(): [name: string, parts: readonly BoundedColumn[]][] {
    const names = [...new Set(this.columns.flatMap(({ of }) => of ?? []))]
    return names.map((name) => [name, this.columns.filter(({ of }) => of === name)])
  }

  /** A few rows that have something in common, as one file gets them. */
  insert(into = this.name): string {
    const dice = this.#dice
    const count = dice.between(1, 6)
    const cells = new Map(this.columns.map((column) => [column, this.#cells(column, count)]))
    const rows = Array.from({ length: count }, (_, row) => {
      const structs = this.#structs().map(([name, parts]) => {
        const values = parts.map((part) => cells.get(part)![row])
        return `(${values.every((value) => value === 'NULL') ? 'NULL' : `ROW(${values.join(', ')})`}::pruned_${name})`
      })
      return `(${[++this.#rows, ...this.#own().map((column) => cells.get(column)![row]), ...structs].join(', ')})`
    })
    return `INSERT INTO ${into} (id, ${this.#names()}) VALUES ${rows.join(', ')}`
  }

  #cells(column: BoundedColumn, count: number): string[] {
    const dice = this.#dice
    const share = dice.next() / 2 ** 32
    const pool = Array.from({ length: share < 0.1 ? 0 : share < 0.3 ? 1 : share < 0.6 ? 2 : count }, () => column.value(dice))
    return Array.from({ length: count }, () => {
      const value = pool.length === 0 || (share > 0.2 && dice.chance(0.15)) ? null : dice.pick(pool)
      if (value !== null) this.known.set(column.name, [...(this.known.get(column.name) ?? []), value])
      return value === null ? 'NULL' : postgresDialect.literal(column, value)
    })
  }

  /** Gives it many rows, a run of them with the cells of a few rows, so that row groups of one file differ as small files do. */
  fill(): void {
    const templates = `${this.name}_rows`
    const runs = Array.from({ length: RUNS_OF_ROWS }, () => {
      const first = this.#rows + 1
      const insert = this.insert(templates)
      return { first, count: this.#rows + 1 - first, insert }
    })
    const statements = runs.map(({ first, count }, run) => {
      const [from, to] = [run * ROWS_OF_RUN, (run + 1) * ROWS_OF_RUN - 1]
      const each = `generate_series(${from}, ${to}) AS n JOIN ${templates} ON id = ${first} + n % ${count}`
      return `INSERT INTO ${this.name} (id, ${this.#names()}) SELECT n, ${this.#names()} FROM ${each}`
    })
    this.filling = [this.definition(templates), ...runs.map(({ insert }) => insert), ...statements, `DROP TABLE ${templates}`].join('; ')
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

  predicates(): Predicate[] {
    return Array.from({ length: this.#predicates }, () => randomPredicate(this.columns, this.known, this.#dice))
  }
}

const valuesOf = (predicate: Predicate) =>
  leavesOf(predicate).flatMap((leaf) => ('values' in leaf ? leaf.values : 'value' in leaf ? [leaf.value] : []))
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
  spark: { fits: () => true, asked: (predicate) => toSql(predicate, spark), expected: (predicate) => toSql(predicate, postgresDialect) },
  pyiceberg: {
    fits: (predicate) => !isBeyondPyIceberg(predicate),
    asked: (predicate) => predicate,
    expected: asPyIceberg,
  },
}

async function expectedRows(client: Client, table: string, sql: string): Promise<Answer> {
  const { rows } = await client.query(`SELECT id FROM ${table} WHERE ${sql}`)
  return briefly(rows.map(({ id }) => id))
}

/** Asks each of the table's readers; what was answered otherwise than by Postgres. */
async function wrongAnswers(client: Client, table: PrunedTable, metadata: string): Promise<string[]> {
  const wrong: string[] = []
  const predicates = table.predicates()
  for (const reader of table.readers) {
    const { asked, expected, fits } = readers[reader]
    const fitting = predicates.filter(fits)
    const answers = await readWhere(reader, metadata, fitting.map(asked), directory)
    for (const [index, predicate] of fitting.entries()) {
      const sql = expected(predicate)
      const [found, rows] = [answers[index], await expectedRows(client, table.name, sql)].map((answer) => JSON.stringify(answer))
      if (found !== rows) wrong.push(`${table.name}, ${reader}: ${sql}: ${found} and not ${rows}`)
    }
  }
  return wrong
}

/** Plays the tables, which `fill` makes before they are mirrored, and asks the readers of each. */
async function wrongOf(
  tables: readonly PrunedTable[],
  play: (client: Client, backend: BackendProcess) => Promise<void>,
): Promise<string[]> {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query(
    `SET timezone = UTC; CREATE TYPE pruned_place AS (${structParts.map(({ name, type }) => `${name} ${type}`).join(', ')})`,
  )
  await changeDdlTriggers(connectionString, 'install')
  for (const table of tables) await client.query(`${table.definition()}; ${table.filling}`)
  const backend = await BackendProcess.start(['--source', connectionString, '--state-dir', join(directory, tables[0].name)], {
    MOONLINK_FLUSH_INTERVAL_MS: '1h',
    MOONLINK_COMPACTION_ENABLED: 'false',
    MOONLINK_SOURCE_TYPES: '{"time": "time"}',
  })
  try {
    await play(client, backend)
    for (const { name } of tables) await client.query(`DELETE FROM ${name} WHERE id % 7 = 3; UPDATE ${name} SET i = i WHERE id % 5 = 0`)
    await backend.wait({ iceberg: true })
    const wrong: string[] = []
    for (const table of tables) {
      const { metadataLocation, reason } = await backend.table(`public.${table.name}`)
      expect(reason).toBeNull()
      if (table.filling !== '') expect(Math.max(...(await rowGroupsOf(metadataLocation)))).toBeGreaterThan(1)
      wrong.push(...(await wrongAnswers(client, table, metadataLocation)))
    }
    return wrong
  } finally {
    await backend.stop()
  }
}

test('readers that leave out files by their bounds find the rows that Postgres finds', { timeout: 36_000_000 }, async () => {
  const random = Array.from({ length: RUNS }, (_, run) => new PrunedTable(`pruned_${run}`, new Dice(SEED + run)))
  const columns = [...boundedColumns.filter(({ name }) => name === 'i'), timeColumn]
  const times = new PrunedTable('times', new Dice(SEED - 1), { columns, readers: ['duckdb', 'pyiceberg'] })
  const wrong = await wrongOf([...random, times], async (client, backend) => {
    for (let batch = 0; batch < BATCHES; batch++) {
      for (const [run, table] of random.entries()) if (batch === BATCHES / 2 && run % 2 === 1) await client.query(table.evolve())
      for (const table of [...random, times]) await client.query(table.insert())
      await backend.wait({ iceberg: true })
    }
  })
  expect(wrong, `MOONLINK_PRUNING_SEED=${SEED}`).toEqual([])
})

test('and so do those that leave out row groups of one file', { timeout: 36_000_000 }, async () => {
  // Each answer has many rows.
  const table = new PrunedTable('grouped', new Dice(SEED - 2), { predicates: Math.ceil(PREDICATES / 2) })
  table.fill()
  expect(await wrongOf([table], async () => {}), `MOONLINK_PRUNING_SEED=${SEED}`).toEqual([])
})
