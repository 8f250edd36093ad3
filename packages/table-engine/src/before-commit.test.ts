import { MoonlinkError } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { beforeAll, expect, test } from 'vitest'
import { streaming } from './testing/streaming-table.ts'

beforeAll(() => loadRoaring())

test('rows are committed once what is waited for before has been done, and not where it failed', async () => {
  const { engine, mirror, scripted, storage, transact } = await streaming()
  const asked: unknown[] = []
  engine.beforeCommit = async (table) => {
    asked.push([table, storage.snapshot.committedLsn])
    if (asked.length === 1) throw new MoonlinkError('retry', 'STATE_NOT_WRITTEN', 'no space')
  }
  scripted.insert([2n, 20])
  await transact(20n)
  await expect(mirror.flush()).rejects.toMatchObject({ code: 'STATE_NOT_WRITTEN' })
  expect(storage.snapshot.committedLsn).toBe(10n)
  await engine.flush()
  expect(storage.snapshot.committedLsn).toBe(20n)

  await mirror.beginResync('changes were missed')
  mirror.awaitSnapshot()
  await mirror.beginCopy({ boundaryLsn: 30n, horizon: '0', storage: null })
  await mirror.finishCopiedRange({ from: 0, to: null })
  await mirror.finishCopy(30n)
  expect(storage.snapshot.committedLsn).toBe(30n)
  expect(asked).toEqual([
    ['public.t', 10n],
    ['public.t', 10n],
    ['public.t', 20n],
  ])
  await engine.close()
})

test('and so are the first rows of a table', async () => {
  const { engine, scripted, storage } = await streaming()
  await engine.removeMirror('public.t')
  const asked: string[] = []
  engine.beforeCommit = async (table) => void asked.push(table)
  const another = Object.assign(Object.create(storage) as typeof storage, {
    get snapshot() {
      return { ...storage.snapshot, committedLsn: null }
    },
  })
  const mirror = await engine.addMirror({ table: scripted.table, schema: scripted.schema, storage: another, appendOnly: false })
  await mirror.finishCopy(40n)
  expect(asked).toEqual(['public.t'])
  await engine.close()
})
