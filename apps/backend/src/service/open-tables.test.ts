import { MoonlinkError } from '@moonlink/core'
import { expect, test } from 'vitest'
import { openTables } from './open-tables.ts'
import type { ListedSourceTable } from './parts.ts'

const denied = new MoonlinkError('invalid', 'STORE_NOT_READABLE', 'may not read it.')
const away = new MoonlinkError('retry', 'STORE_UNAVAILABLE', 'nobody answers.')
const gone = new MoonlinkError('invalid', 'TABLE_UNKNOWN', 'the database has no such table.')
const damaged = new MoonlinkError('corrupt', 'METADATA_CORRUPT', 'it ends amid a value.')
const tables = (count: number) =>
  Array.from({ length: count }, (_, at) => ({ table: { schema: 'public', name: `t${at}` } }) as ListedSourceTable)

/** Opens so many tables, each as `outcome` has it. */
async function opening(count: number, outcome: (at: number) => Error | null) {
  const asked: string[] = []
  const open = async ({ table }: ListedSourceTable) => {
    asked.push(table.name)
    const error = outcome(Number(table.name.slice(1)))
    if (error !== null) throw error
  }
  const failed = await openTables(tables(count), open).catch((error: unknown) => error)
  return { asked, failed }
}

test('tables that are refused, away, damaged, or dropped meanwhile, keep no other from being opened', async () => {
  const outcomes = [denied, away, damaged, gone]
  const { asked, failed } = await opening(40, (at) => outcomes[at] ?? null)
  expect(asked).toHaveLength(40)
  expect(failed).toEqual(new Map(outcomes.map((error, at) => [`public.t${at}`, error])))
})

test('what all tables meet ends it, and so does what is of the source; damaged ones alone do not', async () => {
  expect((await opening(20, () => denied)).failed).toBe(denied)
  const all = await opening(100, () => away)
  expect([all.failed, all.asked.length < 100]).toEqual([away, true])
  const lost = new MoonlinkError('retry', 'PG_CONNECTION_LOST', 'it is gone.')
  expect((await opening(3, (at) => (at === 1 ? lost : null))).failed).toBe(lost)
  expect((await opening(2, () => damaged)).failed).toEqual(new Map(['public.t0', 'public.t1'].map((name) => [name, damaged])))
})
