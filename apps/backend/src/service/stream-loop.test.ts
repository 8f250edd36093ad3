import { setImmediate } from 'node:timers/promises'
import { MoonlinkError, silentLogger, silentTelemetry, type ChangeStream, type Clock, type Lsn, type SourceEvent } from '@moonlink/core'
import { expect, test } from 'vitest'
import { StreamLoop } from './stream-loop.ts'

const random = { bytes: (count: number) => new Uint8Array(count) }
const watermark = (lsn: Lsn): SourceEvent => ({ kind: 'watermark', lsn, sourceLsn: lsn, commitTimeMs: null })
const open: SourceEvent = { kind: 'unmirrorable', table: { schema: 's', name: 't' }, code: 'X', reason: 'stands for a change' }

/** A stream fed by hand. */
class FakeStream implements ChangeStream {
  readonly sourceLsn = 0n
  readonly acknowledged: Lsn[] = []
  closed = false
  readonly #queue: (SourceEvent | Error | 'end')[] = []
  #wake: () => void = () => undefined

  give(...events: (SourceEvent | Error | 'end')[]): void {
    this.#queue.push(...events)
    this.#wake()
  }

  acknowledge(lsn: Lsn): void {
    if (!this.closed) this.acknowledged.push(lsn)
  }

  async close(): Promise<void> {
    this.closed = true
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<SourceEvent> {
    for (;;) {
      const next = this.#queue.shift()
      if (next === 'end') return
      if (next instanceof Error) throw next
      if (next !== undefined) yield next
      else await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }
}

/** A clock whose sleeps end at `wake`, or with their signal. */
class HeldClock implements Clock {
  readonly #sleeps = new Set<() => void>()

  nowMs(): number {
    return 0
  }

  get sleepers(): number {
    return this.#sleeps.size
  }

  sleep(_ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const wake = () => {
        this.#sleeps.delete(wake)
        resolve()
      }
      this.#sleeps.add(wake)
      signal?.addEventListener('abort', () => {
        this.#sleeps.delete(wake)
        reject(signal.reason as Error)
      })
    })
  }

  wake(): void {
    for (const wake of this.#sleeps) wake()
  }
}

function setUp(openStream: (attempt: number) => FakeStream, rollsBack = false) {
  const opened: Lsn[] = []
  const streams: FakeStream[] = []
  const failures: Error[] = []
  const applied: SourceEvent[] = []
  const clock = new HeldClock()
  /** Of the right to the slot, one for each look. */
  const doubts: Error[] = []
  const engine = {
    streamedLsn: 0n,
    resumePoints: () => [],
    restartLsn: () => 5n,
    resetOpenTransaction: async () => !rollsBack,
    apply: async (event: SourceEvent) => {
      applied.push(event)
      if (event.kind === 'watermark') engine.streamedLsn = event.lsn
    },
  }
  const source = {
    open: async (after: Lsn) => {
      opened.push(after)
      const stream = openStream(opened.length)
      streams.push(stream)
      return stream
    },
  }
  const loop = new StreamLoop({
    source,
    engine,
    log: null,
    floorLsn: () => 0n,
    requireCurrent: async () => {
      const [doubt] = doubts.splice(0, 1)
      if (doubt !== undefined) throw doubt
    },
    clock,
    random,
    logger: silentLogger,
    telemetry: silentTelemetry,
    onFailure: (error) => failures.push(error),
  })
  return { loop, doubts, engine, opened, streams, failures, applied, clock }
}

test('a lost stream is opened again where it stood, or earlier where a transaction was rolled back', async () => {
  for (const rollsBack of [false, true]) {
    const { loop, opened, streams, engine, clock } = setUp(() => new FakeStream(), rollsBack)
    loop.start()
    await expect.poll(() => streams.length).toBe(1)
    streams[0].give(watermark(9n), new MoonlinkError('retry', 'LOST', 'lost'))
    await expect.poll(() => clock.sleepers).toBe(1)
    expect(opened).toHaveLength(1)
    clock.wake()
    await expect.poll(() => streams.length).toBe(2)
    expect(streams[0].closed).toBe(true)
    expect(opened).toEqual([5n, rollsBack ? 5n : 9n])
    streams[1].give(watermark(11n))
    await expect.poll(() => engine.streamedLsn).toBe(11n)
    expect(loop.trouble).toBeNull()
    await loop.stop()
    await loop.close()
  }
})

test('no stream is opened while another backend may have taken over', async () => {
  const { clock, doubts, failures, loop, opened } = setUp(() => new FakeStream())
  doubts.push(new MoonlinkError('retry', 'LEASE_UNCERTAIN', 'it is not known'))
  loop.start()
  await expect.poll(() => clock.sleepers).toBe(1)
  expect([opened, loop.trouble]).toEqual([[], 'LEASE_UNCERTAIN it is not known'])
  doubts.push(new MoonlinkError('fenced', 'LEASE_LOST', 'another has taken over'))
  clock.wake()
  await expect.poll(() => failures).toMatchObject([{ code: 'LEASE_LOST' }])
  expect(opened).toEqual([])
})

test('a stop waits for the transaction to end, and the stream still takes acknowledgements', async () => {
  const { loop, streams, engine, applied, clock } = setUp(() => new FakeStream())
  loop.start()
  await expect.poll(() => streams.length).toBe(1)
  streams[0].give(watermark(7n), open)
  await expect.poll(() => applied).toEqual([watermark(7n), open])
  const stopping = loop.stop()
  streams[0].give(open, watermark(8n), watermark(9n))
  await stopping
  expect(engine.streamedLsn).toBe(8n)
  expect(clock.sleepers).toBe(0)
  loop.acknowledge(8n)
  expect(streams[0].acknowledged).toEqual([8n])
  await loop.close()
  expect(streams[0].closed).toBe(true)
})

test('a stop does not wait for ever: of a transaction that does not end soon, the rest is left', async () => {
  const { loop, streams, engine, applied, clock } = setUp(() => new FakeStream())
  loop.start()
  await expect.poll(() => streams.length).toBe(1)
  streams[0].give(watermark(7n), open)
  await expect.poll(() => applied).toHaveLength(2)
  const stopping = loop.stop()
  expect(clock.sleepers).toBe(1)
  clock.wake()
  await stopping
  streams[0].give(watermark(8n))
  expect(engine.streamedLsn).toBe(7n)
  await loop.close()
})

test('what can not pass is reported once, and nothing is opened again', async () => {
  const { loop, streams, failures, opened, clock } = setUp(() => new FakeStream())
  loop.start()
  await expect.poll(() => streams.length).toBe(1)
  streams[0].give(new MoonlinkError('invalid', 'SLOT_GONE', 'the slot is gone'))
  await expect.poll(() => failures.length).toBe(1)
  expect(loop.trouble).toBe('SLOT_GONE the slot is gone')
  // Where it tried again, it would sleep first.
  await setImmediate()
  expect(clock.sleepers).toBe(0)
  expect(opened).toHaveLength(1)
  await loop.stop()
  await loop.close()
})

test('a change of tables happens between two streams', async () => {
  const { loop, streams, opened, applied } = setUp(() => new FakeStream())
  loop.start()
  await expect.poll(() => streams.length).toBe(1)
  streams[0].give(watermark(20n))
  await expect.poll(() => applied).toHaveLength(1)
  await loop.pausedFor(async () => {
    expect(streams[0].closed).toBe(true)
  })
  await expect.poll(() => streams.length).toBe(2)
  expect(opened).toEqual([5n, 20n])
  await loop.stop()
  await loop.close()
})
