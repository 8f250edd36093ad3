import { expect, test, vi } from 'vitest'
import { systemClock } from './clock.ts'

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
