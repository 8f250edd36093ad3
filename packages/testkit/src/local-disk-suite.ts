import type { LocalDisk } from '@moonlink/core'
import { beforeEach, describe, expect, test } from 'vitest'

export interface LocalDiskUnderTest {
  readonly disk: LocalDisk
  /** A directory that is not there yet, below one that is. */
  readonly directory: string
}

const bytesOf = (text: string) => Buffer.from(text)

/** What every `LocalDisk` has to do. */
export function describeLocalDisk(name: string, open: () => Promise<LocalDiskUnderTest>): void {
  describe(name, () => {
    let disk: LocalDisk
    let directory: string

    beforeEach(async () => {
      ;({ disk, directory } = await open())
      await disk.makeDirectory(`${directory}/below`)
      await disk.makeDirectory(`${directory}/below`)
    })

    const write = async (path: string, text: string) => {
      const file = await disk.open(path, 'create')
      await file.write(bytesOf(text), 0)
      await file.sync()
      await file.close()
      await disk.syncDirectory(directory)
    }
    const read = async (path: string) => (await disk.readFile(path)).toString()

    test('a file is written and read in parts', async () => {
      const path = `${directory}/a`
      const file = await disk.open(path, 'create')
      await file.write(bytesOf('hello world'), 0)
      await file.write(bytesOf('there'), 6)
      await file.write(bytesOf('!'), 13)
      expect(await file.size()).toBe(14)
      const into = Buffer.alloc(8)
      expect(await file.read(into, 9)).toBe(5)
      expect(into.subarray(0, 5).toString()).toBe('re\0\0!')
      expect(file.readSync(into, 6)).toBe(8)
      expect(into.toString()).toBe('there\0\0!')
      expect(await file.read(into, 20)).toBe(0)
      await file.truncate(5)
      await file.close()
      expect(await read(path)).toBe('hello')
    })

    test('how a file is opened', async () => {
      const path = `${directory}/a`
      await expect(disk.open(path, 'read')).rejects.toMatchObject({ code: 'ENOENT' })
      await expect(disk.open(path, 'update')).rejects.toMatchObject({ code: 'ENOENT' })
      await expect(disk.open(`${directory}/no/a`, 'create')).rejects.toMatchObject({ code: 'ENOENT' })
      await (await disk.open(path, 'createNew')).close()
      await expect(disk.open(path, 'createNew')).rejects.toMatchObject({ code: 'EEXIST' })
      await write(path, 'first')
      const updated = await disk.open(path, 'update')
      await updated.write(bytesOf('F'), 0)
      await updated.close()
      expect(await read(path)).toBe('First')
      const created = await disk.open(path, 'create')
      expect(await created.size()).toBe(0)
      await created.close()
      await created.close()
    })

    test('names move, take others’ places and go', async () => {
      await write(`${directory}/a`, 'a')
      await write(`${directory}/b`, 'b')
      await disk.rename(`${directory}/a`, `${directory}/b`)
      expect(await read(`${directory}/b`)).toBe('a')
      await expect(disk.readFile(`${directory}/a`)).rejects.toMatchObject({ code: 'ENOENT' })
      await expect(disk.rename(`${directory}/a`, `${directory}/b`)).rejects.toMatchObject({ code: 'ENOENT' })
      expect([...(await disk.list(directory))].sort()).toEqual(['b', 'below'])
      await expect(disk.list(`${directory}/no`)).rejects.toMatchObject({ code: 'ENOENT' })
      expect(await disk.stat(`${directory}/b`)).toMatchObject({ size: 1 })
      await expect(disk.stat(`${directory}/a`)).rejects.toMatchObject({ code: 'ENOENT' })
      await disk.remove(`${directory}/b`)
      await disk.remove(`${directory}/b`)
      expect(await disk.list(directory)).toEqual(['below'])
      await disk.remove(directory)
      await expect(disk.list(directory)).rejects.toMatchObject({ code: 'ENOENT' })
    })

    test('an open file outlives its name', async () => {
      const path = `${directory}/a`
      await write(path, 'kept')
      const file = await disk.open(path, 'read')
      await disk.remove(path)
      const into = Buffer.alloc(4)
      await file.read(into, 0)
      expect(into.toString()).toBe('kept')
      await file.close()
    })
  })
}
