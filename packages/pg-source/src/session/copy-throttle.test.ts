import type { Clock } from '@moonlink/core'
import { expect, test } from 'vitest'
import { CopyThrottle } from './copy-throttle.ts'

class TestClock implements Clock {
  ms = 1000
  nowMs() {
    return this.ms
  }
  async sleep(ms: number) {
    this.ms += ms
  }
}

test('however the bytes come, no more are read than the rate allows, and a rest is not made up for', async () => {
  const clock = new TestClock()
  const throttle = new CopyThrottle(1_000_000, clock)
  const read = async (bytes: number) => {
    await throttle.ready(new AbortController().signal)
    throttle.spend(bytes)
  }
  for (let count = 0; count < 1000; count++) await read(1000 + (count % 7) * 500)
  await throttle.ready(new AbortController().signal)
  const bytes = Array.from({ length: 1000 }, (_, count) => 1000 + (count % 7) * 500).reduce((sum, size) => sum + size, 0)
  expect(clock.ms - 1000).toBeGreaterThan(bytes / 1000 - 110)
  expect(clock.ms - 1000).toBeLessThanOrEqual(bytes / 1000)
  clock.ms += 60_000
  const rested = clock.ms
  for (let count = 0; count < 100; count++) await read(10_000)
  await throttle.ready(new AbortController().signal)
  expect(clock.ms - rested).toBeGreaterThan(880)
})

test('a copy that ends does not wait', async () => {
  const throttle = new CopyThrottle(1, new TestClock())
  throttle.spend(1_000_000)
  await throttle.ready(AbortSignal.abort(new Error('over')))
  expect(throttle.isInDebt).toBe(true)
})
