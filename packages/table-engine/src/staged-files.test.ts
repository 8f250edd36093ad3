import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  silentLogger,
  stringifyJsonLossless,
  systemDisk,
  type Clock,
  type FileGroup,
  type StagedFile,
  type TableStorage,
} from '@moonlink/core'
import { damaged, damagedJson, damages, fuzzing } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { afterAll, beforeEach, expect, test } from 'vitest'
import { StagedFiles } from './staged-files.ts'

const root = mkdtempSync(join(tmpdir(), 'moonlink-staged-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

let directory: string
let discarded: string[]
let nowMs = 0
const clock: Clock = { nowMs: () => nowMs, sleep: () => Promise.reject(new Error('nobody sleeps here')) }
const lateWriteMs = 1000
beforeEach(() => {
  directory = mkdtempSync(join(root, 'table-'))
  discarded = []
})

const staged = (path: string): StagedFile => ({ path, recordCount: 1, sizeBytes: 1, metrics: null })
/** A table that needs some files for themselves, and those of groups with some manifest lists. */
const storageWith = (files: readonly string[], lists: readonly string[] = []) =>
  ({
    unneeded: async (groups: readonly FileGroup[]) => {
      const landed = groups.filter(({ manifestLists }) => manifestLists.some((list) => lists.includes(list)))
      const needed = new Set([...files, ...landed.flatMap(({ paths }) => paths)])
      return groups.flatMap(({ paths }) => paths).filter((path) => !needed.has(path))
    },
    discard: async (paths: readonly string[]) => void discarded.push(...paths),
  }) satisfies Pick<TableStorage, 'unneeded' | 'discard'>

async function next(storage: Pick<TableStorage, 'unneeded' | 'discard'>): Promise<StagedFiles> {
  const files = made()
  await files.open(storage)
  return files
}

function made(): StagedFiles {
  return new StagedFiles({ disk: systemDisk, directory, clock, logger: silentLogger, lateWriteMs })
}

/** What was removed is removed once more. */
async function later(files: StagedFiles): Promise<void> {
  nowMs += lateWriteMs
  files.tick()
  await files.settled()
}

/** A commit of the next process succeeds. */
async function commits(files: StagedFiles): Promise<void> {
  await files.settleDoubts()
  await files.removeAbandoned(new Set())
}

test('a file is listed before there is anything of it, so that the next process finds what a crash left', async () => {
  const files = await next(storageWith([]))
  // Dies while it is written.
  await new Promise<void>((died) => {
    void files.write(async (onPath) => {
      await onPath('a')
      died()
      return new Promise(() => {})
    })
  })
  const after = await next(storageWith([]))
  await after.removeAbandoned(new Set())
  expect(discarded).toEqual([])
  await commits(after)
  expect(discarded).toEqual(['a'])
  await commits(await next(storageWith([])))
  expect(discarded).toEqual(['a'])
})

test('what a commit took before the crash stays, be it that only an older snapshot still has it', async () => {
  const files = await next(storageWith([]))
  for (const path of ['taken', 'replaced since', 'left'])
    await files.write(async (onPath) => {
      await onPath(path)
      return staged(path)
    })
  await next(storageWith(['taken', 'replaced since']))
  // The process after that has them in no snapshot, and removes only what no snapshot had.
  await commits(await next(storageWith([])))
  expect(discarded).toEqual(['left'])
})

test('what was given up here and landed all the same stays where the table is opened again', async () => {
  const files = await next(storageWith([]))
  for (const path of ['landed', 'left'])
    await files.write(async (onPath) => {
      await onPath(path)
      return staged(path)
    })
  files.abandon(['landed', 'left'], true)
  await files.open(storageWith(['landed']))
  await commits(files)
  expect(discarded).toEqual(['left'])
})

test('one that could not be written goes with the next chance', async () => {
  const files = await next(storageWith([]))
  const failing = files.write(async (onPath) => {
    await onPath('a')
    throw new Error('the store is away')
  })
  await expect(failing).rejects.toThrow('away')
  await files.removeAbandoned(new Set())
  expect(discarded).toEqual(['a'])
})

test('a list that an earlier version kept is taken over', async () => {
  writeFileSync(join(directory, 'staged.json'), JSON.stringify(['taken', 'left']))
  await next(storageWith(['taken']))
  expect(readdirSync(directory)).toEqual(['staged'])
  await commits(await next(storageWith([])))
  expect(discarded).toEqual(['left'])
})

test('what commits write is removed once another has succeeded, but for that which landed, by the next process too', async () => {
  const files = await next(storageWith([]))
  await files.list({ paths: ['vectors', 'm0', 'list-0'], manifestLists: ['list-0'] })
  await files.list({ paths: ['vectors', 'm1', 'list-1'], manifestLists: ['list-1'] })
  const landed = storageWith([], ['list-1'])
  const after = await next(landed)
  await commits(after)
  expect(discarded).toEqual(['m0', 'list-0'])
  await commits(await next(landed))
  expect(discarded).toEqual(['m0', 'list-0'])
})

test('files of an expiry that was cut off go, but for those that are gone already', async () => {
  const files = await next(storageWith([]))
  await files.list({ paths: ['a', 'b'], manifestLists: ['expired'] })
  await files.removed(['a'])
  await commits(await next(storageWith([])))
  expect(discarded).toEqual(['b'])
})

test('where it can not be read what is needed, nothing is removed until it can', async () => {
  const files = await next(storageWith([]))
  await files.list({ paths: ['m0', 'list-0'], manifestLists: ['list-0'] })
  const storage = storageWith(['m0'])
  let isAway = true
  const after = await next({
    ...storage,
    unneeded: (groups) => (isAway ? Promise.reject(new Error('the store is away')) : storage.unneeded(groups)),
  })
  await commits(after)
  expect(discarded).toEqual([])
  isAway = false
  await commits(after)
  expect(discarded).toEqual(['list-0'])
})

test('lists that are damaged name files or nothing, and end no start', async () => {
  const group = { manifestLists: ['list'], paths: ['x', 'y'] }
  const lines = [JSON.stringify(group), ...Array.from(damagedJson(group), ({ value }) => stringifyJsonLossless(value))]
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...lines), damages, fc.boolean(), async (text, what, isDamaged) => {
      const list = Buffer.from(`+${JSON.stringify(text)}\n`)
      for (const file of ['staged', 'staged-groups']) writeFileSync(join(directory, file), isDamaged ? damaged(list, what) : list)
      writeFileSync(join(directory, 'staged.json'), isDamaged ? damaged(Buffer.from('["p","q"]'), what) : text)
      discarded = []
      await commits(await next(storageWith(['p'])))
      expect(discarded.every((path) => typeof path === 'string' && path !== 'p')).toBe(true)
    }),
    fuzzing(150),
  )
})

test('of a table that is there no more all that is listed is removed, in as many attempts as it takes, and once more', async () => {
  const files = made()
  await files.write(async (onPath) => (await onPath('a'), staged('a')))
  await files.list({ paths: ['m1', 'v1'], manifestLists: ['l1'] })
  const removed: string[] = []
  const away = async (path: string) => {
    if (removed.length === 1) throw new Error('away')
    removed.push(path)
  }
  const after = made()
  await expect(after.removeAll(away)).rejects.toThrow('away')
  removed.length = 0
  await after.removeAll(async (path) => void removed.push(path))
  expect(removed.toSorted()).toEqual(['a', 'm1', 'v1'])
  await later(after)
  expect(removed.toSorted()).toEqual(['a', 'a', 'm1', 'm1', 'v1', 'v1'])
  expect(readdirSync(directory)).toEqual([])
})

test('a file whose write is carried out once it was removed is removed all the same', async () => {
  const files = await next(storageWith([]))
  files.abandon([(await files.write(async (onPath) => (await onPath('a'), staged('a')))).path])
  await files.removeAbandoned(new Set())
  nowMs += lateWriteMs - 1
  files.tick()
  await files.settled()
  expect(discarded).toEqual(['a'])
  await later(files)
  expect(discarded).toEqual(['a', 'a'])
  await later(files)
  expect(discarded).toEqual(['a', 'a'])
  expect(readdirSync(directory)).toEqual([])
})

test('that it was removed is known to the next process, which asks nobody whether it is needed', async () => {
  const files = await next(storageWith([]))
  files.abandon([(await files.write(async (onPath) => (await onPath('a'), staged('a')))).path])
  await files.removeAbandoned(new Set())
  const { discard } = storageWith([])
  const after = await next({ discard, unneeded: () => Promise.reject(new Error('asked')) })
  await commits(after)
  expect(discarded).toEqual(['a'])
  await later(after)
  expect(discarded).toEqual(['a', 'a'])
})

test('while the store is away, what is to be removed once more stays listed', async () => {
  const files = await next(storageWith([]))
  files.abandon([(await files.write(async (onPath) => (await onPath('a'), staged('a')))).path])
  await files.removeAbandoned(new Set())
  const storage = storageWith([])
  let isAway = true
  const after = await next({ ...storage, discard: (paths) => (isAway ? Promise.reject(new Error('away')) : storage.discard(paths)) })
  await later(after)
  expect(readdirSync(directory)).toEqual(['staged-removed'])
  isAway = false
  await later(after)
  expect(discarded).toEqual(['a', 'a'])
  expect(readdirSync(directory)).toEqual([])
})
