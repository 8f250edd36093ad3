import { DuckDBInstance } from '@duckdb/node-api'
import { expect, test } from 'vitest'
import { Reader } from './reader.ts'

test('a statement is planned and run over one state of the native tables, whatever is appended in between', async () => {
  const instance = await DuckDBInstance.create(':memory:')
  const feeder = await instance.connect()
  await feeder.run('CREATE TABLE dead (r BIGINT, seq BIGINT); INSERT INTO dead SELECT i, i FROM range(100) t(i)')
  await feeder.run('CREATE TABLE tail AS SELECT i FROM range(1000) t(i)')
  const reader = await Reader.open(instance, 'reader')
  const text = `SELECT f.i FROM memory.tail f ANTI JOIN (SELECT r FROM memory.dead WHERE seq < getvariable('end_dead')::BIGINT) d ON f.i = d.r
    WHERE f.rowid < getvariable('rows_tail')::BIGINT`
  const read = async () => {
    await reader.prepare(
      [{ place: { schema: null, name: 't' }, text }],
      new Map([
        ['end_dead', 100],
        ['rows_tail', 1000],
      ]),
    )
    const prepared = await reader.connection.prepare('SELECT count(*) FROM t')
    await feeder.run('INSERT INTO dead SELECT i, i FROM range(100, 500) t(i)')
    await feeder.run('INSERT INTO tail SELECT i FROM range(1000, 3000) t(i)')
    const rows = (await (await prepared.stream()).fetchChunk())?.getRows()
    prepared.destroySync()
    await reader.end()
    return rows
  }
  expect(await read()).toEqual([[900n]])
  expect(await read()).toEqual([[900n]])
  await reader.end()
  reader.close()
  feeder.closeSync()
  instance.closeSync()
})
