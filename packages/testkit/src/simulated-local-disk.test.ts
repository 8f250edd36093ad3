import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemDisk, type LocalDisk } from '@moonlink/core'
import { afterAll, expect, test } from 'vitest'
import { describeLocalDisk } from './local-disk-suite.ts'
import { SimulatedLocalDisk } from './simulated-local-disk.ts'

const scratch = mkdtempSync(join(tmpdir(), 'moonlink-disk-'))
let places = 0

afterAll(() => rmSync(scratch, { recursive: true }))

describeLocalDisk('systemDisk', async () => ({ disk: systemDisk, directory: join(scratch, String(places++)) }))
describeLocalDisk('SimulatedLocalDisk', async () => ({ disk: new SimulatedLocalDisk({ next: () => 0 }).session(), directory: '/dir' }))

/** Every outcome of a power cut that a disk is used with. */
async function outcomes(use: (disk: LocalDisk) => Promise<void>): Promise<Set<string>> {
  const found = new Set<string>()
  for (let seed = 0; seed < 200; seed++) {
    let draws = 0
    const machine = new SimulatedLocalDisk({ next: () => ((seed * 0.37 + draws++ * 0.61) * 1.7) % 1 })
    const disk = machine.session()
    await disk.makeDirectory('/dir')
    await use(disk)
    machine.cutPower()
    const names = await disk.list('/dir')
    const texts = await Promise.all([...names].sort().map(async (name) => `${name}=${(await disk.readFile(`/dir/${name}`)).toString()}`))
    found.add(texts.join())
  }
  return found
}

test('a power cut spares what was synced, name and bytes', async () => {
  const synced = async (disk: LocalDisk) => {
    const file = await disk.open('/dir/a', 'create')
    await file.write(Buffer.from('old'), 0)
    await file.sync()
    await disk.syncDirectory('/dir')
  }
  expect(await outcomes(synced)).toEqual(new Set(['a=old']))
  const replaced = await outcomes(async (disk) => {
    await synced(disk)
    const file = await disk.open('/dir/b', 'create')
    await file.write(Buffer.from('new'), 0)
    await file.sync()
    await disk.rename('/dir/b', '/dir/a')
  })
  expect(replaced).toEqual(new Set(['a=old', 'a=new']))
  const grown = await outcomes(async (disk) => {
    await synced(disk)
    await (await disk.open('/dir/a', 'update')).write(Buffer.from('er'), 3)
  })
  expect(grown).toContain('a=old')
  expect(grown).toContain('a=older')
  expect(grown).toContain('a=olde')
  expect(grown).toContain('a=old\0\0')
})

test('a power cut may take what was not synced, and no open file outlives it', async () => {
  const found = await outcomes(async (disk) => {
    const file = await disk.open('/dir/a', 'create')
    await file.write(Buffer.from('new'), 0)
  })
  expect(found).toContain('')
  expect(found).toContain('a=')
  const machine = new SimulatedLocalDisk({ next: () => 0.5 })
  const disk = machine.session()
  await disk.makeDirectory('/dir')
  const file = await disk.open('/dir/a', 'create')
  disk.end()
  let isDone = false
  void file.write(Buffer.from('x'), 0).then(() => (isDone = true))
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
  expect(isDone).toBe(false)
  expect((await machine.session().readFile('/dir/a')).length).toBe(0)
})

test('what a failed sync was to write is lost to a power cut, also where a later one succeeds, unless it is written again', async () => {
  const machine = new SimulatedLocalDisk({ next: () => 0 })
  let fails = true
  const disk = machine.session(({ operation }) => {
    if (operation === 'sync' && fails) throw new Error('EIO')
  })
  await disk.makeDirectory('/dir')
  const file = await disk.open('/dir/a', 'create')
  await disk.syncDirectory('/dir')
  await file.write(Buffer.from('first'), 0)
  await expect(file.sync()).rejects.toThrow('EIO')
  fails = false
  await file.write(Buffer.from('second'), 5)
  await file.write(Buffer.from('st'), 3)
  await file.sync()
  expect((await disk.readFile('/dir/a')).toString()).toBe('firstsecond')
  machine.cutPower()
  expect((await machine.session().readFile('/dir/a')).toString()).toBe('\0\0\0stsecond')
})

test('a full disk takes no more', async () => {
  const machine = new SimulatedLocalDisk({ next: () => 0 })
  const disk = machine.session()
  await disk.makeDirectory('/dir')
  machine.capacity = 4
  const file = await disk.open('/dir/a', 'create')
  await file.write(Buffer.from('1234'), 0)
  await expect(file.write(Buffer.from('5'), 4)).rejects.toMatchObject({ code: 'ENOSPC' })
  await file.write(Buffer.from('5'), 0)
  await expect(disk.open('/dir/b', 'create')).rejects.toMatchObject({ code: 'ENOSPC' })
})
