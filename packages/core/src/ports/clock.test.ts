import { expect, test, vi } from 'vitest'
import { steadyTime, systemClock } from './clock.ts'

test('a wall clock that is set back is waited for at half the speed of time, and one that is set forward is followed', () => {
  const hour = 3_600_000
  let [wallMs, monotonicMs] = [10 * hour, 500]
  const nowMs = steadyTime(
    () => wallMs,
    () => monotonicMs,
  )
  const pass = (ms: number) => {
    wallMs += ms
    monotonicMs += ms
  }
  expect(nowMs()).toBe(10 * hour)
  pass(hour)
  expect(nowMs()).toBe(11 * hour)
  wallMs -= hour
  expect(nowMs()).toBe(11 * hour)
  pass(1)
  expect(nowMs()).toBe(11 * hour)
  pass(1)
  expect(nowMs()).toBe(11 * hour + 1)
  pass(hour)
  expect(nowMs()).toBe(11.5 * hour + 1)
  pass(2 * hour)
  expect(nowMs()).toBe(wallMs)
  wallMs += 5 * hour
  expect(nowMs()).toBe(wallMs)
})

test('the time of the system is whole milliseconds, and about that of the wall', () => {
  const beforeMs = Date.now()
  const nowMs = systemClock.nowMs()
  expect(Number.isInteger(nowMs)).toBe(true)
  expect(nowMs).toBeGreaterThanOrEqual(beforeMs)
})

test('a sleep that is longer than Node has timers for is no shorter for it', async () => {
  vi.useFakeTimers()
  try {
    const days = 24 * 3_600_000
    let woke = false
    const sleeping = systemClock.sleep(60 * days).then(() => (woke = true))
    await vi.advanceTimersByTimeAsync(60 * days - 1)
    expect(woke).toBe(false)
    await vi.advanceTimersByTimeAsync(1)
    await sleeping
    const stop = new AbortController()
    const stopped = systemClock.sleep(60 * days, stop.signal)
    stop.abort(new Error('no more'))
    await expect(stopped).rejects.toThrow('no more')
    expect(vi.getTimerCount()).toBe(0)
  } finally {
    vi.useRealTimers()
  }
})
