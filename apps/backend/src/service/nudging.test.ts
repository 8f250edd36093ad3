import type { Clock } from '@moonlink/core'
import type { ReadLease, ReadLeaseSource } from '@moonlink/union-read'
import { expect, test } from 'vitest'
import { nudgedLeases } from './nudging.ts'

/** A clock whose sleepers wake when told. */
function manualClock(): { clock: Clock; wake: () => Promise<void>; sleeping: () => number } {
  const sleepers = new Set<() => void>()
  const clock: Clock = {
    nowMs: () => 0,
    sleep: (_ms, signal) =>
      new Promise((resolve, reject) => {
        sleepers.add(resolve)
        signal?.addEventListener('abort', () => {
          sleepers.delete(resolve)
          reject(signal.reason as Error)
        })
      }),
  }
  const wake = async () => {
    const due = [...sleepers]
    sleepers.clear()
    for (const sleeper of due) sleeper()
    await new Promise((resolve) => setImmediate(resolve))
  }
  return { clock, wake, sleeping: () => sleepers.size }
}

test('a source is asked where it is while a lease waits for its LSN, and not while the lease is held', async () => {
  const { clock, wake, sleeping } = manualClock()
  const granted = Promise.withResolvers<ReadLease>()
  const leases: ReadLeaseSource = { readableTables: () => ['public.t'], acquire: () => granted.promise }
  let asked = 0
  const source = { currentLsn: async () => BigInt(++asked) }
  const nudged = nudgedLeases(leases, source, clock)
  expect(nudged.readableTables()).toEqual(['public.t'])
  const acquired = nudged.acquire({ tables: ['public.t'], lsn: 9n, timeoutMs: 1000 })
  expect(asked).toBe(0)
  await wake()
  await wake()
  expect(asked).toBe(2)
  const lease: ReadLease = { lsn: 9n, tables: new Map(), release: () => undefined }
  granted.resolve(lease)
  expect(await acquired).toBe(lease)
  await wake()
  expect(asked).toBe(2)
  expect(sleeping()).toBe(0)
})
