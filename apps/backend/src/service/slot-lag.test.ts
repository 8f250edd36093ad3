import { expect, test } from 'vitest'
import { SlotLag } from './slot-lag.ts'

const at = (sourceLsn: bigint, confirmedFlushLsn: bigint | null) => ({ sourceLsn, confirmedFlushLsn, retainedBytes: 0, slot: null })

test('the lag is the age of the oldest log that the slot has not confirmed', () => {
  const lag = new SlotLag()
  expect(lag.ms(5)).toBe(0)
  lag.note(at(100n, 100n), 0)
  expect(lag.ms(9000)).toBe(0)
  lag.note(at(200n, 100n), 10_000)
  lag.note(at(300n, 100n), 15_000)
  lag.note(at(300n, 100n), 20_000)
  expect(lag.ms(25_000)).toBe(15_000)
  lag.note(at(400n, 250n), 26_000)
  expect(lag.ms(27_000)).toBe(12_000)
  lag.note(at(500n, 500n), 28_000)
  expect(lag.ms(29_000)).toBe(0)
})

test('a slot that stands still for long does not take ever more memory, and its lag stays right', () => {
  const lag = new SlotLag()
  for (let second = 0; second < 10_000; second++) lag.note(at(BigInt(second + 1), null), second * 1000)
  expect(lag.ms(10_000_000)).toBe(10_000_000)
  lag.note(at(20_000n, 5000n), 10_000_000)
  expect(lag.ms(10_000_000)).toBeGreaterThan(4_900_000)
  expect(lag.ms(10_000_000)).toBeLessThanOrEqual(5_000_000)
})
