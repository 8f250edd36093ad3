import { silentLogger, systemClock, type Clock, type Logger } from '@moonlink/core'
import { expect, test } from 'vitest'
import type { SourcePosition } from './parts.ts'
import { SlotWatch } from './slot-watch.ts'

const GIB = 2 ** 30
const healthy: SourcePosition = {
  sourceLsn: 100n,
  confirmedFlushLsn: 50n,
  retainedBytes: 0,
  slot: { walStatus: 'reserved', headroomBytes: 4 * GIB, invalidationReason: null },
}
const slot = (over: Partial<NonNullable<SourcePosition['slot']>>, retainedBytes = 0): SourcePosition => ({
  ...healthy,
  retainedBytes,
  slot: { ...healthy.slot!, ...over },
})

/** A watch that sees one position a second, until they run out. */
async function watch(positions: (SourcePosition | Error)[], options: { heartbeatMs?: number; applied?: (step: number) => bigint } = {}) {
  const said: string[] = []
  const lost: string[] = []
  let beats = 0
  let step = -1
  const logger: Logger = {
    ...silentLogger,
    info: (text) => said.push(text),
    warn: (text) => said.push(text),
    error: (text) => said.push(text),
  }
  let end: () => void = () => undefined
  const ended = new Promise<void>((resolve) => (end = resolve))
  const clock: Clock = {
    nowMs: () => step * 1000,
    sleep: async (_ms, signal) => {
      await Promise.resolve()
      step++
      if (step < positions.length) return
      end()
      await new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)))
    },
  }
  const source = {
    position: async () => {
      const position = positions[step]
      if (position instanceof Error) throw position
      return position
    },
    heartbeat: async () => {
      beats++
      return true
    },
  }
  const { heartbeatMs = 0, applied = () => BigInt(step) } = options
  const under = new SlotWatch({
    source,
    clock,
    logger,
    intervalMs: 1,
    heartbeatMs,
    appliedLsn: () => applied(step),
    onLost: (reason) => lost.push(reason),
  })
  under.start()
  await ended
  await under.stop()
  return { said, lost, beats }
}

test('warns once as headroom shrinks, and says when it is fine again', async () => {
  const low = slot({ walStatus: 'extended', headroomBytes: GIB / 8 }, 2 * GIB)
  const { said, lost } = await watch([healthy, low, low, slot({ walStatus: 'unreserved', headroomBytes: -5 }, 3 * GIB), healthy])
  expect(said.map((text) => text.split('.')[0])).toEqual([
    'the slot nears max_slot_wal_keep_size',
    'the server is about to drop the log that the slot needs',
    'the slot has room again',
  ])
  expect(lost).toEqual([])
})

test('warns before loss, however little the server keeps for a slot', async () => {
  for (const limit of [GIB / 16, GIB / 4, GIB, 64 * GIB]) {
    const used = (share: number) => slot({ headroomBytes: limit * (1 - share) }, limit * share)
    const { said } = await watch([used(0.1), used(0.45), used(0.85), used(0.95), used(0.1)])
    expect(said.map((text) => text.split('.')[0])).toEqual(['the slot nears max_slot_wal_keep_size', 'the slot has room again'])
  }
})

test('warns where the server keeps much for the slot, and has no limit', async () => {
  const keeping = (retainedBytes: number) => slot({ headroomBytes: null }, retainedBytes)
  const { said } = await watch([keeping(GIB / 2), keeping(2 * GIB), keeping(3 * GIB), keeping(1000)])
  expect(said.map((text) => text.split('.')[0])).toEqual([
    'the slot makes the source keep its log, and nothing limits that',
    'the slot has room again',
  ])
})

test('a slot that is gone or invalidated is told once, a server that does not answer is not', async () => {
  expect((await watch([healthy, new Error('no answer'), { ...healthy, slot: null }, { ...healthy, slot: null }])).lost).toEqual([
    'it is not there any more',
  ])
  const { lost } = await watch([slot({ walStatus: 'lost', invalidationReason: 'idle_timeout' })])
  expect(lost).toEqual([expect.stringContaining('invalidated it (idle_timeout)')])
})

test('a quiet database gets a heartbeat, a busy one none', async () => {
  const quiet = Array.from({ length: 10 }, () => healthy)
  expect((await watch(quiet, { heartbeatMs: 3000, applied: () => 7n })).beats).toBe(3)
  expect((await watch(quiet, { heartbeatMs: 3000 })).beats).toBe(0)
  expect((await watch(quiet, { heartbeatMs: 0, applied: () => 7n })).beats).toBe(0)
})

test('whoever asks for the position of a server that does not answer gets the last one, and asks no more until it has answered', async () => {
  const answers: ((position: SourcePosition) => void)[] = []
  const under = new SlotWatch({
    source: { position: () => new Promise((resolve) => answers.push(resolve)), heartbeat: () => Promise.resolve(true) },
    clock: { ...systemClock, sleep: (ms, signal) => systemClock.sleep(Math.min(ms, 5), signal) },
    logger: silentLogger,
    intervalMs: 1000,
    heartbeatMs: 0,
    appliedLsn: () => 0n,
    onLost: () => undefined,
  })
  expect(await under.position()).toBeNull()
  expect(await under.position()).toBeNull()
  expect(answers).toHaveLength(1)
  answers[0](healthy)
  await expect.poll(() => under.position()).toEqual(healthy)
  const later = { ...healthy, sourceLsn: 200n }
  answers.at(-1)!(later)
  await expect.poll(() => under.position()).toEqual(later)
})
