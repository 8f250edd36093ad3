import { SegmentedLog, type LogDisk } from '@moonlink/change-log'
import type { Clock, Lsn } from '@moonlink/core'
import { expect, test } from 'vitest'
import { begin, commit, insert } from '../decode/reference-encoder.test.support.ts'
import { decoderOf, orders, ordersRelation, row } from '../decode/test-streams.test.support.ts'
import { parseConfig } from './config.ts'
import { startStream } from './fake-server.test.support.ts'

/** Time that passes only when told to, so that no machine is too slow for it. */
class ToldClock implements Clock {
  private now = 0
  private readonly sleepers = new Set<{ readonly dueMs: number; readonly wake: () => void }>()

  nowMs(): number {
    return this.now
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const sleeper = { dueMs: this.now + ms, wake: resolve }
      this.sleepers.add(sleeper)
      const onAbort = () => {
        this.sleepers.delete(sleeper)
        reject(signal!.reason as Error)
      }
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** One millisecond, and all that follows from it. */
  async tick(): Promise<void> {
    this.now++
    for (const sleeper of this.sleepers) {
      if (sleeper.dueMs > this.now || !this.sleepers.delete(sleeper)) continue
      sleeper.wake()
    }
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve))
  }

  /** As long as something takes. */
  async during(work: Promise<unknown>): Promise<void> {
    let isDone = false
    const done = work.finally(() => (isDone = true))
    while (!isDone) await this.tick()
    await done
  }
}

/** Syncs take as long as it says. */
function diskOf(clock: Clock, syncMs: number): LogDisk {
  const sync = () => clock.sleep(syncMs)
  return {
    canAppend: true,
    readsAtOnce: 1,
    roomBytes: null,
    list: async () => [],
    read: async () => Buffer.alloc(0),
    create: async () => ({ write: async () => {}, sync, close: async () => {} }),
    sync,
    remove: async () => {},
    locate: (name) => name,
  }
}

test('under a constant load the slot hears within a second of what the log has, with the intervals that are the defaults', async () => {
  const { statusIntervalMs } = parseConfig({ connection: 'postgres://localhost/db', slot: 's' })
  const [syncIntervalMs, syncMs] = [200, 50]
  const clock = new ToldClock()
  const log = await SegmentedLog.open({ disk: diskOf(clock, syncMs), log: 'l', sourceFromLsn: 0n, clock })
  await clock.during(log.begin(0n, () => new Uint8Array()))
  log.prune(0n)
  const waiting: { readonly lsn: Lsn; readonly arrivedMs: number }[] = []
  const delays: number[] = []
  const { send, stream } = await startStream({
    decoder: decoderOf([orders]).decoder,
    clock,
    log,
    statusIntervalMs,
    onStatus: ({ flushed }) => {
      while (waiting.length > 0 && waiting[0].lsn <= flushed) delays.push(clock.nowMs() - waiting.shift()!.arrivedMs)
    },
  })
  log.onDurable(() => stream.acknowledge(log.durableLsn!))
  const taken = (async () => {
    for await (const event of stream) expect(event.kind).not.toBe('schema')
  })()
  let lsn = 100n
  const startMs = clock.nowMs()
  for (let ms = 0; ms < 10_000; ms++) {
    if (ms % 7 === 0) {
      send(begin((lsn += 10n)), ...(ms === 0 ? [ordersRelation] : []), insert(5, row(ms, 'x', 1n)), commit(lsn, lsn + 1n))
      waiting.push({ lsn: lsn + 1n, arrivedMs: startMs + ms })
    }
    await clock.tick()
  }
  expect(delays.length).toBeGreaterThan(1250)
  // Of a sync that has begun when it arrives, it is no part.
  expect(Math.max(...delays)).toBeLessThanOrEqual(syncIntervalMs + 2 * syncMs + statusIntervalMs + 1)
  expect(Math.max(...delays)).toBeLessThan(1000)
  expect(waiting.every(({ arrivedMs }) => clock.nowMs() - arrivedMs < 1000)).toBe(true)
  await clock.during(Promise.all([stream.close(), taken]))
})
