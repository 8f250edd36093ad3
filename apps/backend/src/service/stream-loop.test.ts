import { MoonlinkError, silentLogger, silentTelemetry, systemClock, type ChangeStream, type Lsn, type SourceEvent } from '@moonlink/core'
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

function setUp(openStream: (attempt: number) => FakeStream, rollsBack = false) {
  const opened: Lsn[] = []
  const streams: FakeStream[] = []
  const failures: Error[] = []
  const engine = {
    streamedLsn: 0n,
    resumePoints: () => [],
    restartLsn: () => 5n,
    resetOpenTransaction: async () => !rollsBack,
    apply: async (event: SourceEvent) => {
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
    clock: systemClock,
    random,
    logger: silentLogger,
    telemetry: silentTelemetry,
    onFailure: (error) => failures.push(error),
  })
  return { loop, engine, opened, streams, failures }
}

const until = async (condition: () => boolean) => {
  while (!condition()) await systemClock.sleep(2)
}

test('a lost stream is opened again where it stood, or earlier where a transaction was rolled back', async () => {
  for (const rollsBack of [false, true]) {
    const { loop, opened, streams, engine } = setUp(() => new FakeStream(), rollsBack)
    loop.start()
    await until(() => streams.length === 1)
    streams[0].give(watermark(9n), new MoonlinkError('retry', 'LOST', 'lost'))
    await until(() => streams.length === 2)
    expect(streams[0].closed).toBe(true)
    expect(opened).toEqual([5n, rollsBack ? 5n : 9n])
    streams[1].give(watermark(11n))
    await until(() => engine.streamedLsn === 11n)
    expect(loop.trouble).toBeNull()
    await loop.stop()
    await loop.close()
  }
})

test('a stop waits for the transaction to end, and the stream still takes acknowledgements', async () => {
  const { loop, streams, engine } = setUp(() => new FakeStream())
  loop.start()
  await until(() => streams.length === 1)
  streams[0].give(watermark(7n), open)
  await until(() => engine.streamedLsn === 7n)
  await systemClock.sleep(5)
  let stopped = false
  const stopping = loop.stop().then(() => (stopped = true))
  await systemClock.sleep(20)
  expect(stopped).toBe(false)
  streams[0].give(watermark(8n), watermark(9n))
  await stopping
  expect(engine.streamedLsn).toBe(8n)
  loop.acknowledge(8n)
  expect(streams[0].acknowledged).toEqual([8n])
  await loop.close()
  expect(streams[0].closed).toBe(true)
})

test('what can not pass is reported once, and nothing is opened again', async () => {
  const { loop, streams, failures, opened } = setUp(() => new FakeStream())
  loop.start()
  await until(() => streams.length === 1)
  streams[0].give(new MoonlinkError('invalid', 'SLOT_GONE', 'the slot is gone'))
  await until(() => failures.length === 1)
  await systemClock.sleep(20)
  expect(opened).toHaveLength(1)
  expect(loop.trouble).toBe('SLOT_GONE the slot is gone')
  await loop.stop()
  await loop.close()
})

test('a change of tables happens between two streams', async () => {
  const { loop, streams, opened } = setUp(() => new FakeStream())
  loop.start()
  await until(() => streams.length === 1)
  streams[0].give(watermark(20n))
  await systemClock.sleep(5)
  await loop.pausedFor(async () => {
    expect(streams[0].closed).toBe(true)
  })
  await until(() => streams.length === 2)
  expect(opened).toEqual([5n, 20n])
  await loop.stop()
  await loop.close()
})
