import { isMoonlinkError, type Clock } from '@moonlink/core'
import { expect, test } from 'vitest'
import { StreamDecoder } from '../decode/index.ts'
import { keepalive as keepaliveOf } from '../decode/reference-encoder.test.support.ts'
import { startStream } from './fake-server.test.support.ts'

/** A clock whose sleeps end when told to. */
class HandClock implements Clock {
  now = 1_800_000_000_000
  private sleepers: (() => void)[] = []

  nowMs(): number {
    return this.now
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      this.sleepers.push(() => {
        this.now += ms
        resolve()
      })
      signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
    })
  }

  /** Ends every sleep of now, and lets what follows from it happen. */
  async step(): Promise<void> {
    for (const wake of this.sleepers.splice(0)) wake()
    await new Promise((resolve) => setImmediate(resolve))
  }
}

async function started(decoder = new StreamDecoder({ resolve: () => null })) {
  const clock = new HandClock()
  const { send, ...server } = await startStream({ decoder, clock })
  return { ...server, clock, keepalive: (walEnd: bigint, replyNow: boolean) => send(keepaliveOf(walEnd, replyNow)) }
}

test('a keepalive that wants an answer gets it at once; news wait for the next status', async () => {
  const { stream, clock, statuses, keepalive } = await started()
  keepalive(100n, true)
  expect(statuses).toEqual([{ written: 100n, flushed: 0n, wantsReply: false }])
  stream.acknowledge(90n)
  stream.acknowledge(80n)
  expect(statuses).toHaveLength(1)
  await clock.step()
  expect(statuses).toEqual([expect.anything(), { written: 100n, flushed: 90n, wantsReply: false }])
  await clock.step()
  expect(statuses).toHaveLength(2)
  const closing = stream.close()
  await clock.step()
  await closing
})

test('a server that says nothing is asked, and given up when it does not answer', async () => {
  const { stream, clock, statuses } = await started()
  const first = stream[Symbol.asyncIterator]().next()
  const outcome = first.then(
    () => 'an event',
    (error: unknown) => (isMoonlinkError(error, 'retry') ? error.code : error),
  )
  for (let second = 0; second < 59; second++) await clock.step()
  expect(statuses.some((status) => status.wantsReply)).toBe(true)
  for (let second = 0; second < 3; second++) await clock.step()
  expect(await outcome).toBe('PG_CONNECTION_LOST')
  await stream.close()
})

test('a server that answers is not given up', async () => {
  const { stream, clock, keepalive } = await started()
  for (let second = 0; second < 200; second++) {
    await clock.step()
    if (second % 30 === 0) keepalive(BigInt(second + 1), false)
  }
  const { value } = await stream[Symbol.asyncIterator]().next()
  expect(value).toMatchObject({ kind: 'watermark', lsn: 181n })
  const closing = stream.close()
  await clock.step()
  await closing
})

test('a question amid a replay that is answered before anybody waits does not stop the stream', async () => {
  const event = { kind: 'watermark', lsn: 7n, sourceLsn: 7n, commitTimeMs: null }
  const decoder = {
    question: null as object | null,
    isAnswered: false,
    isReplaying: true,
    sourceLsn: 0n,
    bytesBuffered: 0,
    hasNews: true,
    take() {
      // It is met in the replay itself.
      if (!this.isAnswered) this.question = {}
      if (this.question !== null || !this.isReplaying) return []
      this.isReplaying = false
      return [event]
    },
    answer() {
      this.isAnswered = true
      this.question = null
    },
    acknowledgeable: () => 0n,
    close: () => {},
  }
  const { stream, clock } = await started(decoder as unknown as StreamDecoder)
  expect((await stream[Symbol.asyncIterator]().next()).value).toBe(event)
  const closing = stream.close()
  await clock.step()
  await closing
})
