import { loadRoaring } from '@moonlink/deletion-log'
import { beforeAll, expect, test } from 'vitest'
import { mirroredTable } from './testing/mirrored-table.ts'
import { rowText } from './testing/scripted-table.ts'

beforeAll(() => loadRoaring())

test('a table that is paused while changes of it are being applied is committed as of those', async () => {
  const { engine, mirror, read, send, source, storage } = await mirroredTable()
  source.insert([1n, 'a', 'x'])
  await send(100n)
  await engine.flush()
  const reading = Promise.withResolvers<void>()
  const mayRead = Promise.withResolvers<void>()
  const fetchRows = storage.fetchRows.bind(storage)
  storage.fetchRows = async (...asked) => {
    reading.resolve()
    await mayRead.promise
    return fetchRows(...asked)
  }
  source.update(0, [1n, 'b', 'x'], [2])
  const sent = send(120n)
  await reading.promise
  const paused = mirror.pauseFor('PAUSED', 'by request')
  mayRead.resolve()
  await Promise.all([sent, paused])

  expect(storage.current).toMatchObject({ committedLsn: 120n, exactFromLsn: 120n })
  expect(await read(120n)).toEqual(source.rows.map(rowText))
  await engine.close()
})

test.each([0, 2])(
  'a table that is paused while an earlier flush of it fails, %i times more, can be read with its last large transaction',
  async (failures) => {
    const { changes, engine, mirror, read, send, source, storage } = await mirroredTable()
    storage.failNext.push('before')
    source.insert([1n, 'a', 'x'])
    await send(100n)
    await expect(engine.flush()).rejects.toMatchObject({ kind: 'retry' })
    for (let id = 2n; id < 20n; id++) source.insert([id, 'large', 'x'.repeat(50)])
    await changes()
    expect(await mirror.writeEarly()).toBe('done')
    await send(120n)
    for (let count = 0; count < failures; count++) storage.failNext.push('before')
    await mirror.pauseFor('PAUSED', 'by request')

    expect(await read(120n)).toEqual(source.rows.map(rowText).sort())
    await engine.close()
  },
)
