import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { afterAll, expect, test } from 'vitest'
import { Reader, type Scene } from './reader.ts'

const root = mkdtempSync(join(tmpdir(), 'moonlink-reader-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

/** Counts the rows of `t` as a statement that is read to its end and kept. */
async function countRows(reader: Reader, scene: Scene) {
  const sql = 'SELECT count(*) FROM t'
  await reader.begin(sql, scene)
  const statement = await reader.statement(sql, scene)
  const result = await statement.prepared.stream()
  const found = (await result.fetchChunk())?.getRows()
  await result.fetchChunk()
  await reader.end(true)
  reader.keep(statement, 0)
  return found
}

test.each(['a native table', 'a file'])(
  'a statement over %s is planned and run over one state of the native tables, whatever is appended in between',
  async (what) => {
    const instance = await DuckDBInstance.create(':memory:')
    const feeder = await instance.connect()
    await feeder.run('CREATE TABLE dead (r BIGINT, seq BIGINT); INSERT INTO dead SELECT i, i FROM range(100) t(i)')
    await feeder.run('CREATE TABLE tail AS SELECT i FROM range(1000) t(i)')
    const readsFiles = what === 'a file'
    const path = join(mkdtempSync(join(root, 'rows-')), 'rows.parquet')
    if (readsFiles) await feeder.run(`COPY tail TO '${path}'`)
    const reader = await Reader.open(instance, 'reader')
    const live = (rows: string) =>
      `FROM ${rows} f ANTI JOIN (SELECT r FROM memory.dead WHERE seq < getvariable('end_dead')::BIGINT) d ON f.i = d.r`
    const tail = `SELECT f.i ${live('memory.tail')} WHERE f.rowid < getvariable('rows_tail')::BIGINT`
    const text = readsFiles ? `SELECT f.i ${live(`read_parquet('${path}')`)} UNION ALL ${tail}` : tail
    const variables = new Map([
      ['end_dead', 100],
      ['rows_tail', 1000],
    ])
    const scene: Scene = { views: [{ place: { schema: null, name: 't' }, text }], variables, growing: [], fileCount: 0, readsFiles }
    const read = async () => {
      await reader.begin('SELECT count(*) FROM t', scene)
      const { prepared } = await reader.statement('SELECT count(*) FROM t', scene)
      await feeder.run('INSERT INTO dead SELECT i, i FROM range(100, 500) t(i)')
      await feeder.run('INSERT INTO tail SELECT i FROM range(1000, 3000) t(i)')
      const rows = (await (await prepared.stream()).fetchChunk())?.getRows()
      prepared.destroySync()
      await reader.end(true)
      return rows
    }
    const expected = [[readsFiles ? 1800n : 900n]]
    expect(await read()).toEqual(expected)
    expect(await read()).toEqual(expected)
    await reader.end(true)
    reader.close()
    feeder.closeSync()
    instance.closeSync()
  },
)

test('a statement is planned once for what does not change, and anew once its views, its variables or what they read did', async () => {
  const instance = await DuckDBInstance.create(':memory:')
  const feeder = await instance.connect()
  await feeder.run('CREATE TABLE tail AS SELECT i FROM range(1000) t(i)')
  const reader = await Reader.open(instance, 'reader')
  let rowCount = 1000
  const growing = [{ name: 'memory.tail', rowCount: () => rowCount }]
  const text = `SELECT i FROM memory.tail f WHERE f.rowid < getvariable('rows_tail')::BIGINT`
  const sql = 'SELECT count(*) FROM t'
  const statements: unknown[] = []
  const read = async (rows: number, viewText = text) => {
    const scene: Scene = {
      views: [{ place: { schema: null, name: 't' }, text: viewText }],
      variables: new Map([['rows_tail', rows]]),
      growing,
      fileCount: 1,
      readsFiles: false,
    }
    await reader.begin(sql, scene)
    const statement = await reader.statement(sql, scene)
    statements.push(statement.prepared)
    const result = await statement.prepared.stream()
    const found = (await result.fetchChunk())?.getRows()
    await result.fetchChunk()
    await reader.end(true)
    reader.keep(statement, 10)
    return Number(found?.[0][0])
  }
  const counts = [await read(1000), await read(1000), await read(500)]
  await feeder.run('INSERT INTO tail SELECT i FROM range(1000, 3000) t(i)')
  rowCount = 3000
  counts.push(await read(500), await read(1000), await read(1000), await read(1000, `${text} AND i > 9`))
  reader.sweep(10)
  counts.push(await read(1000, `${text} AND i > 9`))
  reader.sweep(11)
  counts.push(await read(1000, `${text} AND i > 9`))
  expect(counts).toEqual([1000, 1000, 500, 500, 1000, 1000, 990, 990, 990])
  const isNew = statements.map((one, index) => !statements.slice(0, index).includes(one))
  expect(isNew).toEqual([true, false, true, true, true, false, true, false, true])
  reader.close()
  feeder.closeSync()
  instance.closeSync()
})

test('a kept plan is not used where rows are appended before the transaction has its snapshot', async () => {
  const instance = await DuckDBInstance.create(':memory:')
  const feeder = await instance.connect()
  await feeder.run('CREATE TABLE dead AS SELECT i AS seq FROM range(1000) t(i)')
  const reader = await Reader.open(instance, 'reader')
  let rowCount = 1000
  const scene: Scene = {
    views: [{ place: { schema: null, name: 't' }, text: `SELECT seq FROM memory.dead WHERE seq < getvariable('end_dead')::BIGINT` }],
    variables: new Map([['end_dead', 1000]]),
    growing: [{ name: 'memory.dead', rowCount: () => rowCount }],
    fileCount: 1,
    readsFiles: false,
  }
  const read = () => countRows(reader, scene)
  expect(await read()).toEqual([[1000n]])
  const run = reader.connection.run.bind(reader.connection)
  const append = async () => {
    await feeder.run('INSERT INTO dead SELECT i FROM range(1000, 3000) t(i)')
    rowCount = 3000
  }
  reader.connection.run = async (sql: string) => {
    if (sql.includes('FROM memory.dead LIMIT 0')) await append()
    return run(sql)
  }
  expect(await read()).toEqual([[1000n]])
  reader.close()
  feeder.closeSync()
  instance.closeSync()
})

test('a transaction that could not begin whole leaves the reader as it was', async () => {
  const instance = await DuckDBInstance.create(':memory:')
  const feeder = await instance.connect()
  await feeder.run('CREATE TABLE tail AS SELECT i FROM range(10) t(i)')
  const reader = await Reader.open(instance, 'reader')
  const scene: Scene = {
    views: [{ place: { schema: null, name: 't' }, text: 'SELECT i FROM memory.tail' }],
    variables: new Map(),
    growing: [{ name: 'memory.tail', rowCount: () => 10 }],
    fileCount: 1,
    readsFiles: false,
  }
  const read = () => countRows(reader, scene)
  expect(await read()).toEqual([[10n]])
  await feeder.run('ALTER TABLE tail RENAME TO gone')
  await expect(read()).rejects.toThrow('tail')
  await feeder.run('ALTER TABLE gone RENAME TO tail')
  expect(await read()).toEqual([[10n]])
  reader.close()
  feeder.closeSync()
  instance.closeSync()
})
