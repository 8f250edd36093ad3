import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger, type Clock, type LogEntry, type Lsn } from '@moonlink/core'
import { damaged, damages, fuzzing, SimulatedLocalDisk } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { LocalLogDisk } from './local-log-disk.ts'
import { encodeHeader, parseHeader, segmentName } from './segment-format.ts'
import { SegmentedLog } from './segmented-log.ts'
import { SimulatedDisk } from './testing/simulated-disk.ts'

class TestClock implements Clock {
  now = 0
  nowMs = () => this.now
  sleep = () => new Promise<void>(() => {})
}

let disk: SimulatedDisk
let clock: TestClock
beforeEach(() => {
  disk = new SimulatedDisk()
  clock = new TestClock()
})

const scratch = mkdtempSync(join(tmpdir(), 'moonlink-log-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

const open = (sourceFromLsn: Lsn = 0n) => SegmentedLog.open({ disk, log: 'test', sourceFromLsn, clock, segmentBytes: 300 })
const state = () => new Uint8Array()
const transaction = (lsn: Lsn) => Buffer.from(`transaction ${lsn} ${'.'.repeat(80)}\n`)

async function taken(log: SegmentedLog, after: Lsn): Promise<string[]> {
  const numbers: string[] = []
  for await (const entry of log.replay(after) as AsyncIterable<LogEntry>) {
    if (entry.kind === 'frames')
      numbers.push(
        ...Array.from(
          Buffer.from(entry.bytes)
            .toString()
            .matchAll(/transaction (\d+)/g),
          ([, n]) => n,
        ),
      )
  }
  return numbers
}

/** A log of the transactions 101 … 120, each in a record of its own, over several segments. */
async function written(): Promise<void> {
  const log = await open()
  await log.begin(100n, state)
  log.prune(100n)
  for (let lsn = 101n; lsn <= 120n; lsn++) {
    log.append(transaction(lsn), lsn, true)
    await log.sync()
  }
  await log.close()
}

/** Turns one bit in the record of a transaction. Returns the file it is in. */
function flip(lsn: Lsn): string {
  for (const [name, file] of disk.files) {
    const at = file.bytes.indexOf(`transaction ${lsn}`)
    if (at < 0) continue
    file.bytes[at + 3] ^= 4
    return name
  }
  throw new Error(`no transaction ${lsn}`)
}

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => String(from + index))

describe('damage', () => {
  test('a flipped bit is found, named, and what follows it in full is still of use', async () => {
    await written()
    const name = flip(107n)
    const log = await open(120n)
    expect(log.damages).toMatchObject([{ kind: 'corrupt', code: 'LOG_CORRUPT', context: { file: `/disk/${name}` } }])
    expect(log.damages[0].message).toMatch(/ is damaged at byte \d+: check its disk\. .*made equal to it by comparing\.$/)
    const { startLsn, endLsn } = log.status.range!
    expect(startLsn).toBeGreaterThanOrEqual(107n)
    expect(startLsn).toBeLessThan(115n)
    expect(endLsn).toBe(120n)
    expect(await taken(log, startLsn)).toEqual(numbers(Number(startLsn) + 1, 120))
  })

  test('where the source still has what follows a flipped bit, the log is used up to there', async () => {
    await written()
    flip(107n)
    const log = await open(105n)
    expect(log.status.range).toEqual({ startLsn: 100n, endLsn: 106n })
    expect(await taken(log, 100n)).toEqual(numbers(101, 106))
    await log.begin(106n, state)
    log.append(transaction(107n), 107n, true)
    await log.close()
    const again = await open(107n)
    expect(again.damages).toEqual([])
    expect(await taken(again, 100n)).toEqual(numbers(101, 107))
  })

  test('in the last segment too, a flipped bit is told from what was never safe', async () => {
    await written()
    flip(119n)
    expect((await open(120n)).damages).toHaveLength(1)
    disk = new SimulatedDisk()
    await written()
    flip(120n)
    // Nothing after it says that it was safe; but the source has let go of it.
    const log = await open(120n)
    expect(log.damages).toEqual([])
    expect(log.status.range).toBeNull()
    expect((await open(119n)).status.range).toEqual({ startLsn: 100n, endLsn: 119n })
  })

  test('in the first and only segment, too', async () => {
    const log = await SegmentedLog.open({ disk, log: 'test', sourceFromLsn: 0n, clock })
    await log.begin(100n, state)
    for (let lsn = 101n; lsn <= 103n; lsn++) {
      log.append(transaction(lsn), lsn, true)
      await log.sync()
    }
    await log.close()
    const name = flip(102n)
    expect((await open(103n)).damages).toMatchObject([{ code: 'LOG_CORRUPT', context: { file: `/disk/${name}` } }])
  })

  test('a damaged header, a missing segment and a shortened one are named', async () => {
    await written()
    const names = [...disk.files.keys()]
    expect(names.length).toBeGreaterThan(4)
    disk.files.get(names[2])!.bytes[40] ^= 1
    expect((await open(120n)).damages).toMatchObject([{ code: 'LOG_CORRUPT', context: { file: `/disk/${names[2]}`, offset: 0 } }])
    disk.files.delete(names[2])
    const log = await open(120n)
    expect(log.damages).toMatchObject([{ code: 'LOG_SEGMENT_MISSING', context: { file: `/disk/${names[2]}` } }])
    expect(log.status.range!.endLsn).toBe(120n)
    const cut = disk.files.get(names[3])!
    cut.bytes = cut.bytes.subarray(0, cut.bytes.length - 5)
    expect((await open(120n)).damages).toMatchObject([
      { code: 'LOG_SEGMENT_MISSING' },
      { code: 'LOG_CORRUPT', context: { file: `/disk/${names[3]}` } },
    ])
  })

  test.each(['header', 'records'])('a damaged %s is nothing to report where the log began anew since', async (part) => {
    await written()
    const [name, { bytes }] = [...disk.files].at(-2)!
    bytes[part === 'header' ? 40 : bytes.length - 5] ^= 1
    const left = () => disk.files.set(name, { bytes, synced: bytes.length, isNameSafe: true })
    const anew = await open(200n)
    await anew.begin(200n, state)
    anew.append(transaction(201n), 201n, true)
    await anew.close()
    left()
    const again = await open(201n)
    expect(again.damages).toEqual([])
    expect(again.status.range).toEqual({ startLsn: 200n, endLsn: 201n })
  })

  test('segments that were being made when power was cut, one run after the other, are nothing to report', async () => {
    await written()
    const next = Number.parseInt([...disk.files.keys()].at(-1)!) + 1
    const begun = (sequence: number, length: number) => {
      const { bytes } = [...disk.files.values()].at(-1)!
      const torn = Buffer.concat([bytes.subarray(0, length), Buffer.alloc(50)])
      disk.files.set(segmentName(sequence), { bytes: torn, synced: torn.length, isNameSafe: true })
    }
    begun(next, 3)
    begun(next + 1, 0)
    const log = await open(120n)
    expect(log.damages).toEqual([])
    expect(log.status.range).toMatchObject({ endLsn: 120n })
    expect(await taken(log, 110n)).toEqual(expect.arrayContaining(numbers(111, 120)))
  })

  test('one that was complete is told from those, though the log ends in such', async () => {
    await written()
    const [name, { bytes }] = [...disk.files].at(-1)!
    bytes[40] ^= 1
    disk.files.set(segmentName(Number.parseInt(name) + 1), { bytes: Buffer.alloc(0), synced: 0, isNameSafe: true })
    expect((await open(120n)).damages).toMatchObject([{ code: 'LOG_CORRUPT', context: { file: `/disk/${name}`, offset: 0 } }])
  })

  test('segments of another source are not read; those of a later version are refused', async () => {
    await written()
    const other = await SegmentedLog.open({ disk, log: 'other', sourceFromLsn: 0n, clock })
    expect(other.status.range).toBeNull()
    for (const { bytes } of disk.files.values()) {
      bytes.writeUInt32LE(2, 8)
      bytes.writeUInt32LE(0, 20)
    }
    await expect(open()).rejects.toMatchObject({ kind: 'invalid', code: 'LOG_VERSION' })
  })

  test('a bit that flips under a running log is met by the replay', async () => {
    await written()
    const log = await open(120n)
    const name = flip(110n)
    await expect(taken(log, 100n)).rejects.toMatchObject({ code: 'LOG_CORRUPT', context: { file: `/disk/${name}` } })
  })
})

describe('a disk that fails', () => {
  test('when full, it says so, acknowledges nothing more, and goes on when there is room', async () => {
    const said: string[] = []
    const note = (message: string) => void said.push(message)
    const logger = { ...silentLogger, info: note, warn: note }
    const log = await SegmentedLog.open({ disk, log: 'test', sourceFromLsn: 0n, clock, segmentBytes: 300, logger })
    await log.begin(100n, state)
    log.prune(100n)
    log.append(transaction(101n), 101n, true)
    await log.sync()
    disk.capacity = 500
    for (let lsn = 102n; lsn < 110n; lsn++) log.append(transaction(lsn), lsn, true)
    await log.sync()
    expect(log.status.trouble).toMatch(/no room to write: free space/)
    expect(log.durableLsn).toBe(101n)
    expect(log.isBehind).toBe(false)
    expect(await taken(log, 100n)).toEqual(['101'])
    // Iceberg has it all: the log may begin anew, but there is no room yet.
    log.prune(110n)
    clock.now += 100
    log.append(transaction(110n), 110n, true)
    expect(log.status.trouble).not.toBeNull()
    clock.now += 2000
    disk.capacity = 100
    log.append(transaction(111n), 111n, true)
    // It is tried: that it has room is not known yet.
    expect(log.status.trouble).toMatch(/no room to write: free space/)
    log.append(transaction(112n), 112n, true)
    await log.sync()
    expect(log.status.trouble).toMatch(/no room to write: free space/)
    disk.capacity = 10_000
    clock.now += 60_000
    log.append(transaction(113n), 113n, true)
    log.append(transaction(114n), 114n, true)
    await log.sync()
    expect(log.status.trouble).toBeNull()
    expect(said).toEqual(['the change log has stopped', 'the change log begins anew'])
    log.prune(113n)
    expect(log.durableLsn).toBe(114n)
    expect(await taken(log, 113n)).toEqual(['114'])
    await log.close()
    expect((await open(114n)).status.range).toEqual({ startLsn: 113n, endLsn: 114n })
  })

  test('at any one operation, what was durable stays, and a later start goes on', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(60), fc.nat(96), fc.boolean(), async (failAfter, keep, spoils) => {
        disk = new SimulatedDisk()
        disk.failAfter = failAfter
        const log = await open()
        let durable = 100n
        await log.begin(100n, state)
        log.prune(100n)
        for (let lsn = 101n; lsn <= 120n; lsn++) {
          log.append(transaction(lsn), lsn, true)
          await log.sync()
          if (log.durableLsn === null) continue
          expect(log.durableLsn).toBeGreaterThanOrEqual(durable)
          durable = log.durableLsn
        }
        disk.crash([{ keep: keep / 96, garbageAt: spoils ? 0.5 : null }])
        const again = await open(durable)
        expect(again.damages).toEqual([])
        const { range } = again.status
        if (range === null) {
          expect(durable).toBe(100n)
          return
        }
        expect(range).toMatchObject({ startLsn: 100n })
        expect(await taken(again, 100n)).toEqual(numbers(101, Number(range.endLsn)))
        await again.begin(range.endLsn, state)
        again.append(transaction(200n), 200n, true)
        await again.sync()
        expect(await taken(again, 100n)).toEqual([...numbers(101, Number(range.endLsn)), '200'])
      }),
      { numRuns: 300 },
    )
  })

  test('a log leaves room on its disk, stops there, and takes it again once it may let go of what it has', async () => {
    const small = new SimulatedLocalDisk({ next: () => 0.5 })
    small.capacity = 4000
    const place = new LocalLogDisk('/log', small.session(), 2 ** 30)
    const log = await SegmentedLog.open({ disk: place, log: 'test', sourceFromLsn: 0n, clock, segmentBytes: 10_000 })
    await log.begin(100n, state)
    log.prune(100n)
    let lsn = 100n
    const appendOne = async () => {
      log.append(transaction(++lsn), lsn, true)
      await log.sync()
    }
    expect(log.status.maxBytes).toBeGreaterThan(2500)
    while (log.status.trouble === null) {
      expect(log.status.maxBytes).toBeLessThan(3500)
      await appendOne()
    }
    expect(log.status.byteSize).toBeGreaterThan(log.status.maxBytes * 0.8)
    expect(log.status.trouble).toMatch(/^no room to write \/log\/.* and 1000 are kept for .*changeLog\.minFreeBytes/)
    expect(4000 - small.usedBytes).toBeGreaterThanOrEqual(1000)
    expect(log.durableLsn).toBe(lsn - 1n)
    // All of it is in one segment, which goes before another is written.
    log.prune(lsn)
    for (let attempt = 0; log.status.trouble !== null && attempt < 10; attempt++) {
      clock.now += 60_000
      await appendOne()
    }
    for (let more = 0; more < 5; more++) await appendOne()
    log.prune(lsn - 5n)
    expect(log.status.trouble).toBeNull()
    expect(log.durableLsn).toBe(lsn)
    expect(small.usedBytes).toBeLessThan(1500)
    await log.close()
  })

  test('a local disk that may not be written says which path', async () => {
    writeFileSync(join(scratch, 'file'), '')
    const path = join(scratch, 'file', 'log')
    const opened = SegmentedLog.open({ disk: new LocalLogDisk(path), log: 'test', sourceFromLsn: 0n, clock })
    await expect(opened).rejects.toMatchObject({
      kind: 'invalid',
      code: 'LOG_NOT_WRITABLE',
      message: expect.stringContaining(path) as string,
    })
  })
})

test('a flipped bit in the version is damage, and no later version', async () => {
  await written()
  const [file] = disk.files.values()
  file.bytes.writeUInt32LE(513, 8)
  expect((await open(110n)).damages).toMatchObject([{ code: 'LOG_CORRUPT' }])
})

describe('bytes from outside', () => {
  test('any bytes in place of a segment, or within one, neither break the reader nor become transactions', async () => {
    await written()
    const originals = new Map([...disk.files].map(([name, { bytes }]) => [name, Buffer.from(bytes)]))
    const names = [...originals.keys()]
    await fc.assert(
      fc.asyncProperty(fc.nat(names.length - 1), damages, async (index, what) => {
        for (const [name, original] of originals) {
          const bytes = Buffer.from(name === names[index] ? damaged(original, what) : original)
          disk.files.set(name, { bytes, synced: bytes.length, isNameSafe: true })
        }
        const log = await open(110n).catch((error: unknown) => {
          expect(error).toMatchObject({ code: 'LOG_VERSION' })
          return null
        })
        if (log === null || log.status.range === null) return
        const { startLsn, endLsn } = log.status.range
        expect(await taken(log, startLsn)).toEqual(numbers(Number(startLsn) + 1, Number(endLsn)))
      }),
      fuzzing(1500),
    )
  })

  test('a header is read back, and its prefixes are none', () => {
    const header = { log: 'a/b', sequence: 7, startLsn: 99n, isCut: true, isSession: false, continues: { sequence: 6, offset: 40 } }
    const bytes = encodeHeader({ ...header, state: Buffer.from('state') })
    expect(parseHeader(bytes, 'x')).toMatchObject({ ...header, length: bytes.length })
    for (let length = 0; length < bytes.length; length++) expect(parseHeader(bytes.subarray(0, length), 'x')).toBeNull()
  })
})

test('files on a local disk hold what was synced', async () => {
  const log = await SegmentedLog.open({ disk: new LocalLogDisk(join(scratch, 'log')), log: 'test', sourceFromLsn: 0n, clock })
  await log.begin(100n, state)
  log.append(transaction(101n), 101n, true)
  await log.sync()
  expect(readFileSync(join(scratch, 'log', '000000000001.segment')).includes('transaction 101')).toBe(true)
  await log.close()
})

test('what a process that was killed had written, and its successor counts as safe, survives a power cut after that', async () => {
  const killed = await open()
  await killed.begin(100n, state)
  killed.prune(100n)
  killed.append(transaction(101n), 101n, true)
  await killed.sync()
  // Written, but not synced: a bit of a segment that goes on.
  disk.failSyncs = true
  killed.append(transaction(102n), 102n, true)
  await killed.sync()
  disk.failSyncs = false
  const successor = await open()
  successor.prune(100n)
  expect(successor.durableLsn).toBe(102n)
  disk.crash([{ keep: 0, garbageAt: null }])
  expect(await taken(await open(), 100n)).toEqual(['101', '102'])
})

test('what a session left of a transaction that did not end is cut off for whoever comes after the next one, too', async () => {
  const first = await open()
  await first.begin(100n, state)
  first.append(transaction(101n), 101n, true)
  first.append(transaction(102n), null, false)
  await first.close()
  const second = await open()
  await second.begin(101n, state)
  second.append(transaction(103n), 103n, true)
  await second.close()
  expect(await taken(await open(), 100n)).toEqual(['101', '103'])
})
