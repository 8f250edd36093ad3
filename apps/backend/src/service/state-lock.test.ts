import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stringifyJsonLossless } from '@moonlink/core'
import { damaged, damagedJson, damages, fuzzing, readOrRefuse } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { afterAll, expect, test } from 'vitest'
import { lockStateDir } from './state-lock.ts'

const directory = mkdtempSync(join(tmpdir(), 'moonlink-lock-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))
const freshDir = () => join(mkdtempSync(join(directory, 'one-')), 'state')

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
  expect(readdirSync(dir)).toEqual([])
})

test('a lock that names nobody, whatever is in it, is a stale one', async () => {
  const lies = Array.from(damagedJson({ pid: 2 ** 22 + 1, startedTicks: '1' }), ({ value }) => stringifyJsonLossless(value))
  const damage = damages.map((what) => damaged(Buffer.from('{"pid":4194305,"startedTicks":"1"}'), what))
  const dir = freshDir()
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.constantFrom(...lies), damage), async (content) => {
      mkdirSync(dir, { recursive: true })
      writeFileSync(join(dir, 'lock'), content)
      const unlock = await readOrRefuse(() => lockStateDir(dir))
      unlock?.()
      if (unlock !== null) expect(readdirSync(dir)).toEqual([])
    }),
    fuzzing(300),
  )
  for (const content of ['null', '5', '{}', '{"pid":0,"startedTicks":null}', '{"pid":-1,"startedTicks":null}', '{"pid":"x"}']) {
    writeFileSync(join(dir, 'lock'), content)
    lockStateDir(dir)()
  }
})

test.runIf(existsSync('/proc/self'))('a directory that can not be made is refused, not tried for ever', () => {
  expect(() => lockStateDir('/proc/moonlink/state')).toThrow(/state directory \/proc\/moonlink\/state .*--state-dir/)
  expect(() => lockStateDir(process.execPath)).toThrow(/state directory/)
})

test('of processes that find a stale lock at the same moment, one wins', async () => {
  const root = mkdtempSync(join(directory, 'race-'))
  const rounds = 60
  for (let round = 0; round < rounds; round++) {
    mkdirSync(join(root, `${round}`))
    writeFileSync(join(root, `${round}`, 'lock'), JSON.stringify({ pid: 2 ** 22 + 1, startedTicks: '1' }))
  }
  // Each tries the same directory at the same time of the clock, and keeps what it has won until all are done.
  const contender = `
    const { lockStateDir } = await import(${JSON.stringify(join(import.meta.dirname, 'state-lock.ts'))})
    process.stdout.write('ready')
    const [startMs] = await new Promise((go) => process.stdin.once('data', (text) => go(JSON.parse(text))))
    let won = []
    for (let round = 0; round < ${rounds}; round++) {
      while (Date.now() < startMs + round * 8);
      try { lockStateDir(${JSON.stringify(root)} + '/' + round); won.push(round) } catch (error) { if (error.code !== 'STATE_DIR_LOCKED') throw error }
    }
    process.stdout.write(JSON.stringify(won))
    process.stdin.once('end', () => process.exit())`
  const children = Array.from({ length: 4 }, () =>
    spawn(process.execPath, ['--input-type=module', '-e', contender], { stdio: ['pipe', 'pipe', 'inherit'] }),
  )
  const next = async (child: (typeof children)[number]) => String((await once(child.stdout, 'data'))[0])
  try {
    await Promise.all(children.map(next))
    for (const child of children) child.stdin.write(JSON.stringify([Date.now() + 50]))
    const won = (await Promise.all(children.map(next))).flatMap((text) => JSON.parse(text) as number[])
    expect(won.sort((a, b) => a - b)).toEqual(Array.from({ length: rounds }, (_, round) => round))
    for (let round = 0; round < rounds; round++) expect(readdirSync(join(root, `${round}`))).toEqual(['lock.1'])
  } finally {
    for (const child of children) child.kill('SIGKILL')
  }
})

test('a directory that is none is refused in one line', () => {
  const file = join(mkdtempSync(join(directory, 'one-')), 'file')
  writeFileSync(file, '')
  expect(() => lockStateDir(join(file, 'state'))).toThrow(/can't write to the state directory/)
})
