import { EventEmitter } from 'node:events'
import { MoonlinkError } from '@moonlink/core'
import type pg from 'pg'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { watchSilence } from './watch-silence.ts'

const PATIENCE_MS = 8000

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** A session of which nothing comes unless `stream.bytesRead` grows, and what another connection says of it; `asked` counts how often. */
function silent(answer: () => { waits: boolean }[]) {
  const stream = Object.assign(new EventEmitter(), { bytesRead: 100, destroy: vi.fn<(error: Error) => void>() })
  const state = { asked: 0, isWaiting: true }
  const rows = async <T>() => {
    state.asked++
    return answer() as T[]
  }
  const client = { connection: { stream } } as unknown as pg.Client
  const stop = watchSilence({ client, pid: 1 }, { connection: { rows }, patienceMs: PATIENCE_MS }, () => state.isWaiting)
  return { pass: (ms: number) => vi.advanceTimersByTimeAsync(ms), state, stop, stream }
}

const unreachable = () => {
  throw new MoonlinkError('retry', 'PG_UNREACHABLE', 'nobody there')
}

test.each([
  ['is at it', () => [{ waits: false }]],
  [
    'can not be asked just now',
    () => {
      throw new MoonlinkError('retry', 'PG_TOO_MANY_CONNECTIONS', 'no connection left', {
        cause: Object.assign(new Error(), { code: '53300' }),
      })
    },
  ],
])('a session that the server %s is waited for, however long', async (_, answer) => {
  const { pass, state, stop, stream } = silent(answer)
  await pass(PATIENCE_MS * 10)
  expect(state.asked).toBeGreaterThan(5)
  expect(stream.destroy).not.toHaveBeenCalled()
  stop()
})

test.each([
  ['has ended', () => []],
  ['has done with', () => [{ waits: true }]],
  ['does not tell of', unreachable],
])('a session that the server %s is given up, once that was said twice', async (_, answer) => {
  const { pass, state, stop, stream } = silent(answer)
  await pass(PATIENCE_MS)
  expect(state.asked).toBe(1)
  expect(stream.destroy).not.toHaveBeenCalled()
  await pass(PATIENCE_MS / 4)
  expect(state.asked).toBe(2)
  expect(stream.destroy).toHaveBeenCalledOnce()
  stop()
})

test('what comes meanwhile, or is not waited for, is no silence', async () => {
  const { pass, state, stop, stream } = silent(() => [])
  for (let step = 0; step < 20; step++) {
    stream.bytesRead++
    await pass(PATIENCE_MS / 2)
  }
  state.isWaiting = false
  await pass(PATIENCE_MS * 2)
  expect(state.asked).toBe(0)
  // The answer comes after the first suspicion.
  state.isWaiting = true
  await pass(PATIENCE_MS)
  expect(state.asked).toBe(1)
  stream.bytesRead++
  await pass(PATIENCE_MS / 2)
  expect(stream.destroy).not.toHaveBeenCalled()
  stop()
  await pass(PATIENCE_MS * 4)
  expect(state.asked).toBe(1)
})
