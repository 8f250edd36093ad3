import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rename, rm, rmdir, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describeObjectStore } from '@moonlink/testkit'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { pathToFileUri } from '../uri.ts'
import { LocalObjectStore } from './local-object-store.ts'

describeObjectStore('LocalObjectStore', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'moonlink store %41 '))
  return {
    store: new LocalObjectStore(),
    root: `${pathToFileUri(directory)}/`,
    close: () => rm(directory, { recursive: true, force: true }),
  }
})

describe('LocalObjectStore on disk', () => {
  const store = new LocalObjectStore()
  const bytes = new TextEncoder().encode('bytes')
  let directory: string
  let root: string
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'moonlink-store-'))
    root = `${pathToFileUri(directory)}/`
  })
  afterEach(async () => {
    await chmod(directory, 0o700)
    await rm(directory, { recursive: true, force: true })
  })

  async function listed(prefix: string): Promise<string[]> {
    const uris: string[] = []
    for await (const meta of store.list(prefix)) uris.push(meta.uri)
    return uris.sort()
  }

  test('a name is the very name of the file', async () => {
    await store.put(`${root}a b/100%25`, bytes)
    expect(await readFile(join(directory, 'a b', '100%25'))).toEqual(Buffer.from(bytes))
  })

  test('the forms file:/p and file://localhost/p name the same file; a list keeps the form it was asked in', async () => {
    await store.put(`${root}a`, bytes)
    for (const form of [`file:${directory}`, `file://localhost${directory}`]) {
      expect(await store.get(`${form}/a`)).toEqual(bytes)
      expect(await listed(`${form}/`)).toEqual([`${form}/a`])
    }
  })

  test.each(['file://host/a', 'file:relative', '/no/scheme', 's3://bucket/a', 'file:///a/../b', 'file:///a/', 'file:////a', 'file:///a\0'])(
    '%j is refused',
    async (uri) => {
      await expect(store.put(uri, bytes)).rejects.toMatchObject({ kind: 'invalid', code: 'URI_MALFORMED' })
    },
  )

  test('nothing but the object is left behind, not even by a failed put', async () => {
    await store.put(`${root}a`, bytes)
    await store.putIfAbsent(`${root}a`, bytes)
    await mkdir(join(directory, 'taken/x'), { recursive: true })
    await expect(store.put(`${root}taken`, bytes)).rejects.toMatchObject({ kind: 'invalid', code: 'STORE_NOT_WRITABLE' })
    await expect(store.put(`${root}a/below-a-file`, bytes)).rejects.toMatchObject({ kind: 'invalid', code: 'STORE_NOT_WRITABLE' })
    expect((await readdir(directory)).sort()).toEqual(['a', 'taken'])
  })

  test('directories that a delete empties go, those that are not empty stay, as does the root', async () => {
    const clearing = new LocalObjectStore({ root: `${root}lake` })
    for (const name of ['lake/t/data/a', 'lake/t/metadata/v1', 'lake/u/b', 'other/c']) await clearing.put(root + name, bytes)
    await clearing.delete(`${root}lake/t/data/a`)
    expect((await readdir(join(directory, 'lake/t'))).sort()).toEqual(['metadata'])
    await clearing.delete(`${root}lake/t/metadata/v1`)
    expect(await readdir(join(directory, 'lake'))).toEqual(['u'])
    await clearing.delete(`${root}lake/u/b`)
    await clearing.delete(`${root}other/c`)
    expect(await readdir(join(directory, 'lake'))).toEqual([])
    expect(await readdir(join(directory, 'other'))).toEqual([])
  })

  test('writes beside deletes that empty their directory succeed, and what was written is there', async () => {
    const clearing = new LocalObjectStore({ root: root })
    const lane = async (lane: number) => {
      for (let round = 0; round < 100; round++) {
        const uri = `${root}lake/t/data/${lane}`
        if (round % 2 === 0) await clearing.put(uri, bytes)
        else expect(await clearing.putIfAbsent(uri, bytes)).toBe('created')
        expect(await clearing.get(uri)).toEqual(bytes)
        await clearing.delete(uri)
      }
    }
    await Promise.all([1, 2, 3, 4, 5, 6].map(lane))
    expect(await readdir(directory)).toEqual([])
  })

  test('where the root is away, or an empty place is left of it, nothing is absent and nothing is written', async () => {
    const lake = join(directory, 'lake')
    const rooted = new LocalObjectStore({ root: `${root}lake` })
    expect(await rooted.head(`${root}lake/t/a`)).toBeNull()
    await rooted.put(`${root}lake/t/a`, bytes)
    expect(await rooted.head(`${root}lake/t/b`)).toBeNull()
    const expectAway = async () => {
      const calls = [
        () => rooted.get(`${root}lake/t/a`),
        () => rooted.head(`${root}lake/t/a`),
        () => rooted.list(`${root}lake/`).next(),
        () => rooted.put(`${root}lake/t/b`, bytes),
        () => rooted.putIfAbsent(`${root}lake/t/b`, bytes),
        () => rooted.delete(`${root}lake/t/a`),
      ]
      for (const call of calls) await expect(call()).rejects.toMatchObject({ kind: 'retry', code: 'STORE_UNAVAILABLE' })
    }
    await rename(lake, join(directory, 'aside'))
    await expectAway()
    await mkdir(lake)
    await expectAway()
    expect(await readdir(lake)).toEqual([])
    await rmdir(lake)
    await rename(join(directory, 'aside'), lake)
    expect(await rooted.get(`${root}lake/t/a`)).toEqual(bytes)
    // Mounted again, a disk may have another number.
    await cp(lake, join(directory, 'copy'), { recursive: true })
    await rename(lake, join(directory, 'aside'))
    await rename(join(directory, 'copy'), lake)
    await rooted.put(`${root}lake/t/b`, bytes)
    expect(await rooted.get(`${root}lake/t/a`)).toEqual(bytes)
  })

  test('files in the making are not listed, and removed once they are old', async () => {
    const left = join(directory, '.moonlink-tmp-left-by-a-crash')
    await writeFile(left, bytes)
    await utimes(left, 1000, 1000)
    await writeFile(join(directory, '.moonlink-tmp-in-the-making'), bytes)
    await store.put(`${root}a`, bytes)
    expect(await listed(root)).toEqual([`${root}a`])
    expect(await store.removeTemporaries(root, 2_000_000)).toBe(1)
    expect((await readdir(directory)).sort()).toEqual(['.moonlink-tmp-in-the-making', 'a'])
  })

  test('linked files and directories are listed, a circle of links is not followed', async () => {
    await store.put(`${root}data/a`, bytes)
    await symlink(join(directory, 'data'), join(directory, 'linked'))
    await symlink(directory, join(directory, 'data/up'))
    await symlink(join(directory, 'nowhere'), join(directory, 'dangling'))
    expect(await listed(root)).toEqual([`${root}data/a`, `${root}linked/a`])
  })

  test.skipIf(process.getuid?.() === 0)('missing permissions name the path and the remedy', async () => {
    await store.put(`${root}a`, bytes)
    await chmod(join(directory, 'a'), 0)
    await expect(store.get(`${root}a`)).rejects.toMatchObject({ kind: 'invalid', code: 'STORE_NOT_READABLE' })
    await chmod(directory, 0o500)
    await expect(store.put(`${root}b`, bytes)).rejects.toMatchObject({
      kind: 'invalid',
      code: 'STORE_NOT_WRITABLE',
      message: expect.stringContaining(directory),
    })
  })
})
