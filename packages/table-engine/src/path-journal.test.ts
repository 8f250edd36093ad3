import { appendFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger, systemDisk, type LocalDisk } from '@moonlink/core'
import { damaged, damages, fuzzing } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { afterAll, beforeEach, expect, test, vi } from 'vitest'
import { PathJournal } from './path-journal.ts'
import { simulatedDisk } from './testing/simulated.ts'

const root = mkdtempSync(join(tmpdir(), 'moonlink-journal-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

let path: string
beforeEach(() => {
  path = join(mkdtempSync(join(root, 'table-')), 'journal')
})

async function loaded(): Promise<PathJournal> {
  const journal = new PathJournal(systemDisk, path, silentLogger)
  await journal.load()
  return journal
}

test('property: another process finds what was there last', async () => {
  const name = fc.constantFrom('a', 'b', 'c\n', 'd "quoted"', 'é')
  const step = fc.oneof(fc.record({ add: name }), fc.record({ remove: fc.array(name, { maxLength: 3 }) }), fc.constant({ restart: true }))
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      path = join(mkdtempSync(join(root, 'table-')), 'journal')
      let journal = await loaded()
      const expected = new Set<string>()
      for (const one of steps) {
        if ('add' in one) {
          expected.add(one.add)
          await journal.add(one.add)
        } else if ('remove' in one) {
          for (const gone of one.remove) expected.delete(gone)
          await journal.remove(one.remove)
        } else journal = await loaded()
        expect([...(await loaded()).paths].toSorted()).toEqual([...expected].toSorted())
      }
    }),
    { numRuns: 50 },
  )
})

test('each change is one line more, not the whole list again, and what has gone takes no room for good', async () => {
  const journal = await loaded()
  const name = (index: number) => `file:///warehouse/public/t/data/${String(index).padStart(8, '0')}.parquet`
  const ROOM = name(0).length + 13
  let inode = 0
  for (let index = 0; index < 500; index++) {
    const before = index === 0 ? 0 : statSync(path).size
    await journal.add(name(index))
    expect(statSync(path).size - before).toBe(ROOM)
    // Made anew each time, the file would be another.
    if (index === 0) inode = statSync(path).ino
    expect(statSync(path).ino).toBe(inode)
  }
  for (let index = 0; index < 499; index++) await journal.remove([name(index)])
  expect(statSync(path).size).toBeLessThan(300 * ROOM)
  expect([...(await loaded()).paths]).toEqual([name(499)])
  await journal.remove([name(499)])
  expect(existsSync(path)).toBe(false)
})

test('a bit that flips in a path makes no other path of it', async () => {
  await (await loaded()).add('file:///t/data/2.parquet')
  const bytes = readFileSync(path)
  bytes[bytes.indexOf('2.parquet')] ^= 1
  writeFileSync(path, bytes)
  expect([...(await loaded()).paths]).toEqual([])
})

test('what earlier versions wrote, without checksums, is read', async () => {
  writeFileSync(path, '+"a"\n+"b"\n-"a"\n')
  const journal = await loaded()
  expect([...journal.paths]).toEqual(['b'])
  await journal.add('c')
  expect([...(await loaded()).paths]).toEqual(['b', 'c'])
})

test('a line that was cut off counts for nothing, and does not spoil the next', async () => {
  await (await loaded()).add('a')
  appendFileSync(path, '+"b')
  const journal = await loaded()
  expect([...journal.paths]).toEqual(['a'])
  await journal.add('c')
  expect([...(await loaded()).paths]).toEqual(['a', 'c'])
})

test('a journal that is damaged is read as far as it can be, and what comes next is kept', async () => {
  await fc.assert(
    fc.asyncProperty(damages, async (what) => {
      path = join(mkdtempSync(join(root, 'table-')), 'journal')
      const before = await loaded()
      const names = ['file:///t/data/a', 'file:///t/data/b', 'file:///t/data/"c"']
      for (const name of names) await before.add(name)
      await before.remove([names[1]])
      // Several at a time could take a checksum away, and change what it was of.
      writeFileSync(path, damaged(readFileSync(path), what.slice(0, 1)))
      const journal = await loaded()
      expect(names).toEqual(expect.arrayContaining([...journal.paths]))
      const known = [...journal.paths]
      await journal.add('next')
      expect([...(await loaded()).paths].toSorted()).toEqual([...new Set([...known, 'next'])].toSorted())
    }),
    fuzzing(100),
  )
})

test('a path that can not be written down is refused, and so are those that were to be written with it; a later one leaves nothing of them', async () => {
  const journal = await loaded()
  await journal.add('a')
  mkdirSync(`${path}.tmp`)
  appendFileSync(path, '+"torn')
  const torn = await loaded()
  const outcomes = await Promise.allSettled([torn.add('b'), torn.add('c'), torn.remove(['a'])])
  expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled'])
  expect(outcomes[1]).toMatchObject({ reason: { kind: 'retry', code: 'STATE_FAILED', context: { path } } })
  expect([...torn.paths]).toEqual([])
  await torn.add('d')
  expect(readFileSync(path, 'utf8')).toMatch(/^\+"d" [\da-f]{8}\n$/)
})

test('a full disk: nothing is listed, or left, for which there is no room', async () => {
  const disk = simulatedDisk()
  const session = disk.session()
  await session.makeDirectory('/state')
  const journal = new PathJournal(session, '/state/staged', silentLogger)
  await journal.add('a')
  disk.capacity = disk.usedBytes + 3
  for (let attempt = 0; attempt < 3; attempt++) await expect(journal.add('b')).rejects.toMatchObject({ kind: 'retry', code: 'STATE_FULL' })
  expect(await session.list('/state')).toEqual(['staged'])
  disk.capacity = Number.POSITIVE_INFINITY
  await journal.add('c')
  disk.cutPower()
  const after = new PathJournal(disk.session(), '/state/staged', silentLogger)
  await after.load()
  expect([...after.paths]).toEqual(['a', 'c'])
})

test('where the disk has no room for a second list, what has changed goes behind the first', async () => {
  const disk = simulatedDisk()
  const session = disk.session()
  await session.makeDirectory('/state')
  const journal = new PathJournal(session, '/state/staged', silentLogger)
  const long = 'c'.repeat(80)
  for (const kept of ['a', 'b', long]) await journal.add(kept)
  const listed = async () => {
    const after = new PathJournal(disk.session(), '/state/staged', silentLogger)
    await after.load()
    return [...after.paths]
  }
  // Too many lines; then one that did not fit.
  for (let round = 0; round < 150; round++) {
    disk.capacity = disk.usedBytes + 28
    await journal.add('x')
    await journal.remove(['x'])
  }
  disk.capacity = disk.usedBytes + 3
  await expect(journal.add('dd')).rejects.toMatchObject({ code: 'STATE_FULL' })
  await journal.remove(['b'])
  disk.capacity = disk.usedBytes + 44
  await journal.add('e')
  disk.cutPower()
  expect(await listed()).toEqual(['a', long, 'e'])
  disk.capacity = Number.POSITIVE_INFINITY
  await journal.add('f')
  // A file of four lines.
  expect(disk.usedBytes).toBeLessThan(200)
  expect(await listed()).toEqual(['a', long, 'e', 'f'])
})

test('a list whose sync failed is not written on: the next is a file of its own', async () => {
  const disk = simulatedDisk()
  let fails = false
  const session = disk.session(({ operation }) => {
    if (fails && operation === 'sync') throw Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO' })
  })
  await session.makeDirectory('/state')
  const journal = new PathJournal(session, '/state/staged', silentLogger)
  await journal.add('a')
  fails = true
  await expect(journal.add('b')).rejects.toMatchObject({ code: 'STATE_FAILED' })
  fails = false
  disk.capacity = disk.usedBytes + 27
  await expect(journal.add('b')).rejects.toMatchObject({ code: 'STATE_FULL' })
  disk.capacity = Number.POSITIVE_INFINITY
  await journal.add('b')
  disk.cutPower()
  const after = new PathJournal(disk.session(), '/state/staged', silentLogger)
  await after.load()
  expect([...after.paths]).toEqual(['a', 'b'])
})

test('a process ended before the name of its list was safe: what the next one adds survives a power cut', async () => {
  const disk = simulatedDisk()
  const session = disk.session(async ({ operation }) => {
    if (operation === 'syncDirectory') await new Promise<never>(() => undefined)
  })
  await session.makeDirectory('/state')
  void new PathJournal(session, '/state/staged', silentLogger).add('a')
  const next = new PathJournal(disk.session(), '/state/staged', silentLogger)
  await vi.waitUntil(async () =>
    (
      await disk
        .session()
        .readFile('/state/staged')
        .catch(() => '')
    ).includes('"a"'),
  )
  await next.load()
  await next.add('b')
  disk.cutPower()
  const after = new PathJournal(disk.session(), '/state/staged', silentLogger)
  await after.load()
  expect([...after.paths]).toEqual(['a', 'b'])
})

test('what could not be read is not lost: it is read with the next change', async () => {
  for (const gone of ['a', 'b', 'c']) await (await loaded()).add(gone)
  const before = readFileSync(path, 'utf8')
  let isReadable = false
  const failing: LocalDisk = {
    ...systemDisk,
    readFile: async (name) => {
      if (!isReadable) throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' })
      return systemDisk.readFile(name)
    },
  }
  const journal = new PathJournal(failing, path, silentLogger)
  await journal.load()
  await expect(journal.add('d')).rejects.toMatchObject({ kind: 'retry', code: 'STATE_FAILED', context: { errno: 'EIO' } })
  await journal.remove(['d', 'a'])
  expect(readFileSync(path, 'utf8')).toBe(before)
  isReadable = true
  await journal.add('e')
  expect([...(await loaded()).paths].toSorted()).toEqual(['b', 'c', 'e'])
  await journal.remove(['e'])
  await journal.add('f')
  expect([...(await loaded()).paths].toSorted()).toEqual(['b', 'c', 'f'])
})

test('a line that an earlier process could not sync takes none behind it along where a power cut spoils it', async () => {
  const disk = simulatedDisk()
  const loadedBy = async (session = disk.session()) => {
    const journal = new PathJournal(session, '/journal', silentLogger)
    await journal.load()
    return journal
  }
  await (await loadedBy()).add('a')
  const failing = disk.session(({ operation }) => {
    if (operation === 'sync') throw new Error('the disk failed')
  })
  await expect((await loadedBy(failing)).add('b')).rejects.toThrow('the disk failed')
  await (await loadedBy()).add('c')
  disk.cutPower()
  expect([...(await loadedBy()).paths]).toEqual(['a', 'c'])
})
