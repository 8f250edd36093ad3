import { MoonlinkError } from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { afterEach, beforeAll, expect, test, vi } from 'vitest'
import { PAUSED_PROPERTY } from './mirror-spec.ts'
import { mirroredTable } from './testing/mirrored-table.ts'

const denial = new MoonlinkError('invalid', 'STORE_NOT_WRITABLE', 'may not write there: allow it.')
beforeAll(() => loadRoaring())
afterEach(() => {
  vi.restoreAllMocks()
})

async function deniedTable() {
  const { engine, mirror, read, send, source, storage } = await mirroredTable()
  source.insert([1n, 'a', null])
  await send(100n)
  const methods = ['writeFile', 'commit', 'setProperties'] as const
  const denied = Object.fromEntries(methods.map((method) => [method, vi.spyOn(storage, method).mockRejectedValue(denial)]))
  await expect(engine.flush()).rejects.toBe(denial)
  const allow = (which: readonly (typeof methods)[number][] = methods) => which.forEach((method) => denied[method].mockRestore())
  return { allow, engine, mirror, read, storage }
}

test('nothing is kept for a table whose pause is refused; it can go on once all that was refused was tried with success', async () => {
  const { allow, engine, mirror, read, storage } = await deniedTable()
  expect(engine.acknowledgeableLsn()).toBe(0n)
  mirror.pauseForRefusal()
  await vi.waitFor(() => expect(mirror.durableLsn()).toBeNull())
  expect(engine.acknowledgeableLsn()).toBe(100n)
  expect(await read(100n)).toHaveLength(1)
  allow(['setProperties'])
  await vi.waitFor(async () => {
    await engine.tick()
    expect(storage.snapshot.properties[PAUSED_PROPERTY]).toMatch(/^STORE_NOT_WRITABLE /)
  })
  expect(mirror.isAllowedAgain).toBe(false)
  allow()
  await vi.waitFor(async () => {
    await engine.tick()
    expect(mirror.isAllowedAgain).toBe(true)
  })
  expect(storage.snapshot.committedLsn).toBe(100n)
  await engine.close()
})

test('one that is paused by request waits for that, whatever is allowed, and is recorded so', async () => {
  const { allow, engine, mirror, storage } = await deniedTable()
  mirror.pauseForRefusal()
  await expect(mirror.pauseFor('PAUSED', 'by request')).rejects.toBe(denial)
  allow()
  await vi.waitFor(async () => {
    await engine.tick()
    expect(storage.snapshot.properties[PAUSED_PROPERTY]).toBe('PAUSED by request')
  })
  expect(mirror.isAllowedAgain).toBe(false)
  await engine.close()
})

test('the source keeps nothing for a table that another program dropped in the catalog, which remembers nothing', async () => {
  const { engine, mirror, send, source, storage } = await mirroredTable()
  source.insert([1n, 'a', null])
  await send(100n)
  vi.spyOn(storage, 'commit').mockRejectedValue(new MoonlinkError('conflict', 'TABLE_GONE', 'it was dropped.'))
  vi.spyOn(storage, 'setProperties').mockRejectedValue(new MoonlinkError('invalid', 'TABLE_NOT_FOUND', 'there is none.'))
  await expect(engine.flush()).rejects.toMatchObject({ code: 'TABLE_GONE' })
  await vi.waitFor(async () => {
    await engine.tick()
    expect(mirror.durableLsn()).toBeNull()
  })
  expect(mirror.status()).toMatchObject({ state: 'failed', reason: 'TABLE_GONE it was dropped.' })
  await engine.close()
})

test('one that is the only table is not paused: it may be the whole store', async () => {
  const { engine, mirror } = await deniedTable()
  engine.pauseRefused(0)
  expect(mirror.currentPhase).toBe('streaming')
  await engine.close()
})
