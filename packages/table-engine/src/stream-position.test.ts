import { systemClock } from '@moonlink/core'
import { expect, test } from 'vitest'
import { StreamPosition } from './stream-position.ts'

test('who waits in vain is told how far reads are, and the source where that has not come so far', async () => {
  const position = new StreamPosition(systemClock)
  position.reached(0x10n, 0x20n)
  await expect(position.wait(0x20n, 0)).rejects.toMatchObject({
    kind: 'retry',
    code: 'TIMED_OUT',
    message: '0/20 is not applied after 0 ms (applied: 0/10)',
  })
  await expect(position.wait(0x21n, 0)).rejects.toMatchObject({
    message: '0/21 is not applied after 0 ms (applied: 0/10; the source was at 0/20 when last heard of)',
  })
})

test('who waits when it is closed is told so at once, and so is who asks behind that', async () => {
  const position = new StreamPosition(systemClock)
  const waits = expect(position.wait(0x10n, 3_600_000)).rejects.toMatchObject({ kind: 'retry', code: 'ENGINE_CLOSED' })
  position.close()
  await waits
  await expect(position.wait(0n, 3_600_000)).rejects.toMatchObject({ code: 'ENGINE_CLOSED' })
})
