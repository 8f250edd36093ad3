import { mkdtempSync, readdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger, systemDisk, type StagedFile, type TableStorage } from '@moonlink/core'
import { beforeEach, expect, test } from 'vitest'
import { StagedFiles } from './staged-files.ts'

let directory: string
let discarded: string[]
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'moonlink-staged-'))
  discarded = []
})

const staged = (path: string): StagedFile => ({ path, recordCount: 1, sizeBytes: 1, metrics: null })
const file = (path: string) => ({ path, recordCount: 1, sizeBytes: 1, firstRowId: 0, dataSequenceNumber: 1 })
const storageWith = (current: readonly string[], older: readonly string[] = []) =>
  ({
    snapshot: { files: current.map(file) },
    retained: () => [{ snapshotId: 1n }],
    loadSnapshot: async () => ({ files: older.map(file) }),
    discard: async (paths: readonly string[]) => void discarded.push(...paths),
  }) as unknown as TableStorage

async function next(storage: TableStorage): Promise<StagedFiles> {
  const files = new StagedFiles({ disk: systemDisk, directory }, storage, silentLogger)
  await files.open(storage)
  return files
}

/** A commit of the next process succeeds. */
async function commits(files: StagedFiles): Promise<void> {
  files.settleDoubts()
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
  await next(storageWith(['taken'], ['replaced since']))
  // The process after that has them in no snapshot, and removes only what no snapshot had.
  await commits(await next(storageWith([])))
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
