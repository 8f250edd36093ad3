import { systemClock } from '@moonlink/core'
import { expect, test } from 'vitest'
import { SEGMENT_VERSION } from './segment-format.ts'
import { SegmentedLog } from './segmented-log.ts'
import { SimulatedDisk } from './testing/simulated-disk.ts'

/** The segments of the log below as each version wrote them, in Base64; what one wrote never changes. */
const versions: Readonly<Record<number, readonly string[]>> = {
  1: [
    'bW9vbmxvZwoBAAAAXgAAABYAAABbaYCueyJpc0N1dCI6dHJ1ZSwiaXNTZXNzaW9uIjp0cnVlLCJsb2ciOiJzb3VyY2UiLCJzZXF1ZW5jZSI6MSwiY29udGlu' +
      'dWVzIjpudWxsLCJzdGFydExzbiI6IjAvNjQifXdoYXQgdGhlIGRlY29kZXIga25vd3MxUkxNXwAAAHy+2wJlAAAAAAAAAIwAAABmaXJzdCBwYXJ0IG9mIDEw' +
      'MQp0cmFuc2FjdGlvbiAxMDEgLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uCjFSTE1fAAAA4EJ1' +
      'NmYAAAAAAAAAAwEAAGZpcnN0IHBhcnQgb2YgMTAyCnRyYW5zYWN0aW9uIDEwMiAuLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4u' +
      'Li4uLi4uLi4uLi4uLi4uLi4K',
    'bW9vbmxvZwoBAAAAdgAAABYAAACCVCEFeyJpc0N1dCI6dHJ1ZSwiaXNTZXNzaW9uIjpmYWxzZSwibG9nIjoic291cmNlIiwic2VxdWVuY2UiOjIsImNvbnRp' +
      'bnVlcyI6eyJzZXF1ZW5jZSI6MSwib2Zmc2V0IjozNzh9LCJzdGFydExzbiI6IjAvNjYifXdoYXQgdGhlIGRlY29kZXIga25vd3MxUkxNXwAAANTWw9NnAAAA' +
      'AAAAAKQAAABmaXJzdCBwYXJ0IG9mIDEwMwp0cmFuc2FjdGlvbiAxMDMgLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4uLi4u' +
      'Li4uLi4uLi4uLi4uCg==',
  ],
}

const text = (lsn: bigint | number) => `first part of ${lsn}\ntransaction ${lsn} ${'.'.repeat(60)}\n`
const open = (disk: SimulatedDisk) => SegmentedLog.open({ disk, log: 'source', sourceFromLsn: 0n, clock: systemClock, segmentBytes: 150 })

/** Transactions at 101 to 103, in two parts each, behind a state. */
async function write(disk: SimulatedDisk): Promise<void> {
  const log = await open(disk)
  await log.begin(100n, () => Buffer.from('what the decoder knows'))
  for (const lsn of [101n, 102n, 103n]) {
    const frames = text(lsn)
    log.append(Buffer.from(frames.slice(0, 10)), null, false)
    log.append(Buffer.from(frames.slice(10)), lsn, true)
    await log.sync()
  }
  await log.close()
}

test('a log that an earlier version wrote is read', async () => {
  for (const segments of Object.values(versions)) {
    const disk = new SimulatedDisk()
    for (const [index, segment] of segments.entries()) {
      const bytes = Buffer.from(segment, 'base64')
      disk.files.set(`${String(index + 1).padStart(12, '0')}.segment`, { bytes, synced: bytes.length, isNameSafe: true })
    }
    const log = await open(disk)
    expect(log.damages).toEqual([])
    expect(log.status.range).toEqual({ startLsn: 100n, endLsn: 103n })
    let read = ''
    for await (const entry of log.replay(100n)) read += entry.kind === 'frames' ? Buffer.from(entry.bytes).toString() : `[${entry.kind}]`
    expect(read).toBe(`[state]${[101, 102, 103].map(text).join('')}`)
    await log.close()
  }
})

test('what this version writes is what it wrote: another format is another version', async () => {
  const disk = new SimulatedDisk()
  await write(disk)
  expect([...disk.files.values()].map(({ bytes }) => bytes.toString('base64'))).toEqual(versions[SEGMENT_VERSION])
})
