import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { lockStateDir } from './state-lock.ts'

const freshDir = () => join(mkdtempSync(join(tmpdir(), 'moonlink-lock-')), 'state')

test('a live holder keeps others out; a dead one does not', async () => {
  const dir = freshDir()
  lockStateDir(dir)()
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' })
  writeFileSync(join(dir, 'lock'), JSON.stringify({ pid: child.pid, startedTicks: null }))
  expect(() => lockStateDir(dir)).toThrow(`process ${child.pid} works in`)
  // The same id, but a process that started at another time.
  writeFileSync(join(dir, 'lock'), JSON.stringify({ pid: child.pid, startedTicks: '1' }))
  if (existsSync('/proc/self/stat')) lockStateDir(dir)()
  writeFileSync(join(dir, 'lock'), JSON.stringify({ pid: child.pid, startedTicks: null }))
  child.kill('SIGKILL')
  await once(child, 'exit')
  lockStateDir(dir)()
  expect(existsSync(join(dir, 'lock'))).toBe(false)
})

test('a directory that is none is refused in one line', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'moonlink-lock-')), 'file')
  writeFileSync(file, '')
  expect(() => lockStateDir(join(file, 'state'))).toThrow(/can't write to the state directory/)
})
