import { loadRoaring } from '@moonlink/deletion-log'
import { beforeAll, expect, test } from 'vitest'
import { mirroredTable } from './testing/mirrored-table.ts'
import { rowText } from './testing/scripted-table.ts'

beforeAll(() => loadRoaring())

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
    expect(await mirror.memory.writeEarly()).toBe('done')
    await send(120n)
    for (let count = 0; count < failures; count++) storage.failNext.push('before')
    await mirror.pauseFor('PAUSED', 'by request')

    expect(await read(120n)).toEqual(source.rows.map(rowText).sort())
    await engine.close()
  },
)
