import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess, RequestError } from './testing/backend-process.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-past-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

test('one statement reads several tables at one LSN, be it in memory or in older snapshots of theirs', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query(
    'CREATE TABLE a (n int PRIMARY KEY); CREATE TABLE b (n int PRIMARY KEY); INSERT INTO a VALUES (0); INSERT INTO b VALUES (0)',
  )
  const args = ['--source', connectionString, '--state-dir', join(directory, 'state')]
  const env = { MOONLINK_FLUSH_INTERVAL_MS: '1h', MOONLINK_COMPACTION_MIN_FILES: '3' }
  let backend = await BackendProcess.start(args, env)
  const counts = 'SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)'
  const moments: { lsn: string; row: number[] }[] = []
  const note = async () => {
    const { rows } = await client.query<[lsn: string, a: string, b: string]>({
      text: counts.replace('SELECT', 'SELECT pg_current_wal_insert_lsn(),'),
      rowMode: 'array',
    })
    const [lsn, ...row] = rows[0]
    moments.push({ lsn, row: row.map(Number) })
  }
  try {
    await note()
    // Commits of the two tables that never cover the same changes.
    for (const [index, table] of ['a', 'b', 'a', 'a', 'b', 'b', 'a'].entries()) {
      await client.query(`INSERT INTO ${table} VALUES (${index + 1})`)
      await note()
      await backend.wait()
      if (index % 2 === 0) await backend.post('/flush', { tables: [`public.${table}`] })
      else await backend.wait({ iceberg: true })
      for (const moment of moments) expect(await backend.query(counts, moment.lsn), `at ${moment.lsn}`).toEqual([moment.row])
    }
    await backend.stop()
    backend = await BackendProcess.start(args, env)
    for (const moment of moments) expect(await backend.query(counts, moment.lsn), `at ${moment.lsn}`).toEqual([moment.row])

    const refused = await backend.query(counts, '0/1').catch((error: unknown) => error)
    expect(refused).toBeInstanceOf(RequestError)
    expect((refused as RequestError).code).toBe('LSN_NOT_HELD')
    expect((refused as Error).message).toMatch(
      /public\.a can't be read at 0\/1 any more: held are \w+\/\w+ to \w+\/\w+, and in older snapshots \w+\/\w+ to \w+\/\w+"/,
    )
  } finally {
    await backend.stop('SIGKILL')
  }
})
