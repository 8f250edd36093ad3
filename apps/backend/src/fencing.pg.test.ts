import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { moonlink } from './testing/command-line.ts'

const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-fencing-'))
const running: BackendProcess[] = []
afterAll(async () => {
  for (const backend of running) await backend.stop('SIGKILL')
  rmSync(directory, { recursive: true, force: true })
})

test('a second backend on one slot says who has it and touches nothing; on another slot, it takes the tables over and the first stops', async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query('CREATE TABLE orders (id bigint PRIMARY KEY, note text); INSERT INTO orders VALUES (1, $$a$$)')
  const argsOf = (name: string) => [
    '--source',
    connectionString,
    '--state-dir',
    join(directory, name),
    '--warehouse',
    join(directory, 'lake'),
  ]
  const first = await BackendProcess.start(argsOf('first'), { MOONLINK_FLUSH_INTERVAL_MS: '300ms' })
  running.push(first)
  const same = await moonlink(['start', ...argsOf('second'), '--http', '127.0.0.1:0'], {}, directory)
  expect(same).toMatchObject({ status: 1, stderr: expect.stringMatching(/^PG_SLOT_IN_USE .*moonlink stream/) as string })
  // What is wrong with what it was given is said first.
  const misspelt = await moonlink(['start', ...argsOf('second'), '--table', 'public.oders', '--http', '127.0.0.1:0'], {}, directory)
  expect(misspelt).toMatchObject({ status: 1, stderr: expect.stringMatching(/^TABLE_UNKNOWN .*public\.oders.*public\.orders/) as string })
  await client.query('INSERT INTO orders VALUES (2, $$b$$)')
  await first.wait({ iceberg: true })
  expect(first.child.exitCode).toBeNull()

  const second = await BackendProcess.start(argsOf('second'), { MOONLINK_SOURCE_SLOT: 'another', MOONLINK_FLUSH_INTERVAL_MS: '300ms' })
  running.push(second)
  const ended = new Promise<number | null>((resolve) => first.child.once('exit', resolve))
  await client.query('INSERT INTO orders VALUES (3, $$c$$)')
  expect(await ended).toBe(1)
  expect(first.said).toMatch(/OTHER_MIRROR another backend has taken over Iceberg table public.orders/)
  await second.wait({ iceberg: true })
  expect(await second.query('SELECT count(*), max(note) FROM public.orders')).toEqual([[3, 'c']])
})
