import { MoonlinkError, type FileGroup, type JsonObject, type TableStorage } from '@moonlink/core'
import { expect, test } from 'vitest'
import { textOf } from '../metadata/fields.ts'
import { harness, IDENTIFIER, rowsOf, type Harness } from './harness.test.support.ts'

/** A table, what each of its commits listed, and the data file of each. */
async function tableOf(commits: number) {
  const h = harness()
  const groups: FileGroup[] = []
  const ledger = { list: async (group: FileGroup) => void groups.push(group), removed: async () => undefined }
  const storage = await h.open({ ledger })
  const files: string[] = []
  for (let commit = 0; commit < commits; commit++) {
    const file = await storage.writeFile(rowsOf(1))
    files.push(file.path)
    h.clock.ms += 1000
    await storage.commit({ kind: 'append', addFiles: [file], removeFiles: [], vectors: [], lsn: BigInt(commit + 1) })
  }
  return { h, storage, groups, files }
}

async function dropFile(storage: TableStorage, path: string): Promise<void> {
  await storage.commit({ kind: 'replace', addFiles: [], removeFiles: [path], vectors: [], lsn: 9n })
}

async function removeOldest(h: Harness): Promise<void> {
  const [oldest] = (await h.metadata())['snapshots'] as readonly JsonObject[]
  await h.catalog.commit(IDENTIFIER, [], [{ action: 'remove-snapshots', 'snapshot-ids': [oldest['snapshot-id']!] }])
}

const listOf = ({ manifestLists }: FileGroup) => manifestLists[0]
const manifestsOf = (group: FileGroup) => group.paths.filter((path) => path !== listOf(group))

test('what a snapshot that has gone left to one that is neither the current nor the first any more is needed', async () => {
  const { h, storage, groups, files } = await tableOf(2)
  // The first commit's manifest is in the second snapshot, but not in the current one.
  await dropFile(storage, files[0])
  await removeOldest(h)
  const reopened = await h.open()
  const lists = ((await h.metadata())['snapshots'] as readonly JsonObject[]).map((snapshot) => textOf(snapshot, 'manifest-list'))
  expect(lists).not.toContain(listOf(groups[0]))
  expect(manifestsOf(groups[0])).toHaveLength(1)
  expect(await reopened.unneeded([groups[0]])).toEqual([listOf(groups[0])])
  await removeOldest(h)
  expect(new Set(await (await h.open()).unneeded([groups[0]]))).toEqual(new Set(groups[0].paths))
})

test('a commit whose files can not be listed writes none of them, and can be tried again', async () => {
  const h = harness()
  let isFull = true
  const list = async () => {
    if (isFull) throw new MoonlinkError('retry', 'STATE_FULL', 'no room for the list')
  }
  const storage = await h.open({ ledger: { list, removed: async () => undefined } })
  const file = await storage.writeFile(rowsOf(1))
  const before = await h.objects()
  const commit = { kind: 'append', addFiles: [file], removeFiles: [], vectors: [], lsn: 1n } as const
  await expect(storage.commit(commit)).rejects.toMatchObject({ kind: 'retry', code: 'STATE_FULL' })
  expect(await h.objects()).toEqual(before)
  isFull = false
  await storage.commit(commit)
  expect(storage.snapshot.files).toHaveLength(1)
})

test('a file of which no manifest list is known is looked for in every snapshot', async () => {
  const { h, storage, files } = await tableOf(3)
  await dropFile(storage, files[1])
  // It is in neither the oldest snapshot nor the current one.
  const listed = [{ paths: [files[1], 'left'], manifestLists: [] }]
  expect(await storage.unneeded(listed)).toEqual(['left'])
  await removeOldest(h)
  await removeOldest(h)
  await removeOldest(h)
  expect(await (await h.open()).unneeded(listed)).toEqual([files[1], 'left'])
})

test('files of a commit that did not land are not needed, those of one that did are, be it that they share some', async () => {
  const { storage, groups } = await tableOf(1)
  const lost = { paths: ['vectors', 'm0', 'list-0'], manifestLists: ['list-0'] }
  const landed = { ...groups[0], paths: ['vectors', ...groups[0].paths] }
  expect(await storage.unneeded([lost, landed])).toEqual(['m0', 'list-0'])
})
