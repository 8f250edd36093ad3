import { LocalLogDisk, SegmentedLog } from '@moonlink/change-log'
import { silentLogger, type Clock } from '@moonlink/core'
import { SimulatedLocalDisk } from '@moonlink/testkit'
import { expect, test, vi } from 'vitest'
import { LogRelief } from './log-relief.ts'

/** Syncs only where it is asked to. */
const clock: Clock = { nowMs: () => 0, sleep: () => new Promise(() => {}) }

test('on a disk with less room than the log may have, tables are committed at half of that room, and the log never stops', async () => {
  const machine = new SimulatedLocalDisk({ next: () => 0.5 })
  machine.capacity = 40_000
  const log = await SegmentedLog.open({
    disk: new LocalLogDisk('/log', machine.session(), 2 ** 30),
    log: 'test',
    sourceFromLsn: 0n,
    clock,
    segmentBytes: 1000,
    maxBytes: 2 ** 32,
  })
  await log.begin(100n, () => new Uint8Array())
  log.prune(100n)
  let lsn = 100n
  const flush = vi.fn(async () => log.prune(lsn))
  let nowMs = 0
  const relief = new LogRelief({
    engine: { pauseRefused: () => undefined },
    log,
    clock: { ...clock, nowMs: () => (nowMs += 10_000) },
    logger: silentLogger,
    flush,
  })
  let largest = 0
  for (let count = 0; count < 500; count++) {
    log.append(Buffer.alloc(200, '.'), ++lsn, true)
    await log.sync()
    largest = Math.max(largest, log.status.byteSize)
    relief.look()
    expect(log.status.trouble).toBeNull()
  }
  expect(flush).toHaveBeenCalled()
  expect(largest).toBeGreaterThan(10_000)
  await log.close()
})
