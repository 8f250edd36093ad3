import { appendValue, BatchBuilder } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { afterEach, beforeAll, expect, test, vi } from 'vitest'
import { SealedFiles } from './sealed-files.ts'
import { mirroredTable } from './testing/mirrored-table.ts'

beforeAll(() => loadRoaring())
afterEach(() => vi.restoreAllMocks())

test.each([0, 1])('what a comparison still brings is refused, and no more, where another begins: %i columns came', async (added) => {
  const { engine, mirror, send, source } = await mirroredTable()
  source.insert([1n, 'a', 'x'])
  await send(100n)
  await engine.flush()
  const { fields, identifierFieldIds } = source.schema
  const more = Array.from({ length: added }, () => ({ id: 4, name: 'more', type: { kind: 'string' } as const, required: false }))
  const schema = { fields: [...fields, ...more], identifierFieldIds }
  const now = { shape: { schema, sourceState: 'later' }, asOfLsn: 110n, isAnew: false, isJustOpened: false }
  await mirror.beginResync('by request', now)
  const rows = new BatchBuilder(schema.fields)
  ;[1n, 'a', 'x', ...more.map(() => null)].forEach((value, column) => appendValue(rows.builders[column], value))

  const reset = Promise.withResolvers<void>()
  const mayGoOn = Promise.withResolvers<void>()
  vi.spyOn(SealedFiles.prototype, 'removeOthers').mockImplementationOnce(async () => {
    reset.resolve()
    await mayGoOn.promise
  })
  const again = mirror.beginResync('by request', now)
  await reset.promise
  const appended = mirror.appendCopied(rows.view())
  mayGoOn.resolve()
  await expect(appended).rejects.toMatchObject({ kind: 'retry', code: 'COPY_STOPPED' })
  await again
  await mirror.appendCopied(rows.view())
  await mirror.finishCopy(120n)
  expect(mirror.status()).toMatchObject({ state: 'streaming', rows: 1 })
  await engine.close()
})

test('a table that was made anew is another than what is committed also where its comparison begins again', async () => {
  const { engine, mirror, send, source } = await mirroredTable()
  source.insert([1n, 'a', 'x'])
  await send(100n)
  await engine.flush()
  const fields = source.schema.fields.map((field) => ({ ...field, id: field.id + 10 }))
  const shape = { schema: { fields, identifierFieldIds: source.schema.identifierFieldIds.map((id) => id + 10) }, sourceState: 'anew' }
  await mirror.beginResync('it was made anew', { shape, asOfLsn: 110n, isAnew: true, isJustOpened: false })
  // By now the mirror has the new table's shape, though nothing of that is committed.
  await mirror.beginResync('the slot is gone', { shape, asOfLsn: 115n, isAnew: false, isJustOpened: false })
  const rows = new BatchBuilder(fields)
  ;[1n, 'a', 'y'].forEach((value, column) => appendValue(rows.builders[column], value))
  await mirror.appendCopied(rows.view())
  await mirror.finishCopy(120n)
  expect(mirror.status()).toMatchObject({ state: 'streaming', rows: 1 })
  await engine.close()
})
