import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { silentLogger } from '@moonlink/core'
import { createLogger, withTroubleLines } from './logger.ts'

test.skipIf(!existsSync('/dev/full'))('whoever logs never hears of a full disk', () => {
  const logger = createLogger('info', '/dev/full')
  for (let line = 0; line < 20; line++) logger.warn('a line', { line })
})

test('lines that found no room are written once there is some', ({ skip }) => {
  const directory = mkdtempSync(join(tmpdir(), 'moonlink-logger-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', directory], { stdio: 'ignore' })
  } catch {
    rmSync(directory, { recursive: true })
    return skip('mounting is not allowed here')
  }
  try {
    const path = join(directory, 'moonlink.log')
    const logger = createLogger('info', path)
    logger.info('before')
    const filler = join(directory, 'filler')
    const { bavail, bsize } = statfsSync(directory)
    writeFileSync(filler, Buffer.alloc(bavail * bsize))
    for (let line = 0; line < 100; line++) logger.info('x'.repeat(100), { line })
    rmSync(filler)
    logger.info('after')
    const messages = readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { msg: string; line?: number })
    expect(messages.at(-1)!.msg).toBe('after')
    expect(messages.flatMap(({ line }) => (line === undefined ? [] : [line]))).toEqual(Array.from({ length: 100 }, (_, line) => line))
  } finally {
    execFileSync('umount', ['-l', directory])
    rmSync(directory, { recursive: true })
  }
})

test('people are told in one line what a warning is about, why, and what to do', () => {
  const lines: string[] = []
  const logger = withTroubleLines(silentLogger, (line) => lines.push(line))
  logger.warn('a file was not removed', { path: 's3://bucket/a', error: 'Error: denied\n  twice' })
  logger.warn('a part is left out', { note: 'segment 3 was cut off' })
  logger.error('table failed', { table: 'public.a', path: '/x', reason: 'DISK it is full' })
  logger.warn('the user may not', { slot: 's', remedy: 'GRANT it' })
  logger.info('all is well', { table: 'public.a' })
  expect(lines).toEqual([
    'warning: a file was not removed: s3://bucket/a: Error: denied twice',
    'warning: a part is left out: segment 3 was cut off',
    'error: table failed: public.a: DISK it is full',
    'warning: the user may not: s: GRANT it',
  ])
})

test('what is logged does not drive a terminal', () => {
  const path = join(mkdtempSync(join(tmpdir(), 'moonlink-logger-')), 'moonlink.log')
  createLogger('info', path).info('a table', { table: 'public.\u001b[2J\u009b1m\u007f' })
  const text = readFileSync(path, 'utf8')
  expect(text.trim()).not.toMatch(/\p{Control}/u)
  expect(JSON.parse(text)).toMatchObject({ table: 'public.\u001b[2J\u009b1m\u007f' })
})
