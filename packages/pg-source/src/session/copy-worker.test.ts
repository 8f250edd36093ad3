import { systemClock } from '@moonlink/core'
import { expect, test } from 'vitest'
import type { CopyBinaryDecoder } from '../decode/index.ts'
import { CopyThrottle } from './copy-throttle.ts'
import { CopyWorker } from './copy-worker.ts'
import { READY, type RawConnection, type RawHandler } from './raw-connection.ts'

test('a COPY whose end comes while its pace is held is over', async () => {
  let handler: RawHandler | null = null
  const connection = {
    start: (_: string, given: RawHandler) => (handler = given),
    pause: () => undefined,
    resume: () => undefined,
    close: async () => undefined,
  } as unknown as RawConnection
  const decoder = { rowsBuffered: 0, bytesBuffered: 0, feed: () => undefined, flush: () => undefined, finish: () => undefined }
  const held = Promise.withResolvers<void>()
  const waits = Promise.withResolvers<void>()
  const clock = {
    ...systemClock,
    nowMs: () => 0,
    sleep: async () => {
      waits.resolve()
      await held.promise
      clock.nowMs = () => 1_000_000
    },
  }
  const worker = new CopyWorker(connection, { copyBatchRows: 10, copyBatchBytes: 1000 }, new CopyThrottle(1000, clock))
  worker.start('COPY', decoder as unknown as CopyBinaryDecoder)
  handler!.copyData(Buffer.alloc(500), 0, 500, true)
  const filled = worker.fill()
  await waits.promise
  // On its way already when reading was paused.
  handler!.control(READY)
  held.resolve()
  expect(await filled).toBe(false)
})
