import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { LocalSpoolFiles, spoolError } from './spool-files.ts'

test('files hold what was written to them, and leave nothing behind', () => {
  const directory = mkdtempSync(join(tmpdir(), 'moonlink-spool-'))
  writeFileSync(join(directory, '1-1.spool'), 'of an earlier process')
  const files = new LocalSpoolFiles(directory)
  expect(readdirSync(directory)).toEqual([])
  const file = files.create()
  file.write(Buffer.from('hello'), 0)
  file.write(Buffer.from('p!'), 3)
  const read = Buffer.alloc(5)
  file.read(read, 0)
  expect(read.toString()).toBe('help!')
  file.remove()
  expect(readdirSync(directory)).toEqual([])
})

test('a directory that is not one is named, and is no reason to give up', () => {
  const directory = mkdtempSync(join(tmpdir(), 'moonlink-spool-'))
  const files = new LocalSpoolFiles(directory)
  rmSync(directory, { recursive: true })
  expect(() => files.create()).toThrow(
    expect.objectContaining({ kind: 'retry', code: 'SPOOL_FAILED', message: expect.stringContaining(directory) }),
  )
  writeFileSync(directory, '')
  expect(() => new LocalSpoolFiles(directory)).toThrow(expect.objectContaining({ kind: 'retry', code: 'SPOOL_FAILED' }))
})

test('a full disk is told from others', () => {
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
  expect(spoolError(full, '/state/spool')).toMatchObject({
    kind: 'retry',
    code: 'SPOOL_FULL',
    message: `transactions in progress do not fit into memory and can't be written to /state/spool (ENOSPC): free space there, or raise source.spoolBytes. They are asked for again until then.`,
  })
})
