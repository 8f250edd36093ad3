import type { Clock, Lsn } from '@moonlink/core'
import { SimulatedLocalDisk, type DiskCall } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LocalLogDisk } from './local-log-disk.ts'
import { SegmentedLog } from './segmented-log.ts'

/** Syncs only where it is asked to. */
const clock: Clock = { nowMs: () => 0, sleep: () => new Promise(() => {}) }
const state = () => new Uint8Array()
const transaction = (lsn: Lsn) => Buffer.from(`transaction ${lsn} ${'.'.repeat(80)}\n`)

/** A process with the log: it may fail at what `fails` says, and ends with `end`. */
async function start(
  machine: SimulatedLocalDisk,
  sourceFromLsn: Lsn,
  fails: (call: DiskCall) => boolean = () => false,
  segmentBytes = 300,
) {
  const session = machine.session((call) => {
    if (fails(call)) throw Object.assign(new Error(`EIO: ${call.operation}`), { code: 'EIO' })
  })
  const log = await SegmentedLog.open({ disk: new LocalLogDisk('/log', session), log: 'test', sourceFromLsn, clock, segmentBytes })
  return { log, end: () => session.end() }
}

async function taken(log: SegmentedLog, after: Lsn): Promise<string[]> {
  const found: string[] = []
  for await (const entry of log.replay(after)) {
    if (entry.kind === 'frames')
      found.push(
        ...Array.from(
          Buffer.from(entry.bytes)
            .toString()
            .matchAll(/transaction (\d+)/g),
          ([, n]) => n,
        ),
      )
  }
  return found
}

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => String(from + index))

test.each(['', ' on a disk without room for another file'])(
  'what a sync failed to write, and a successor counts as safe, survives a power cut after that%s',
  async (where) => {
    const machine = new SimulatedLocalDisk({ next: () => 0 })
    let isBroken = false
    const first = await start(machine, 0n, ({ operation }) => isBroken && operation === 'sync')
    await first.log.begin(100n, state)
    first.log.prune(100n)
    first.log.append(transaction(101n), 101n, true)
    await first.log.sync()
    isBroken = true
    first.log.append(transaction(102n), 102n, true)
    await first.log.sync()
    expect(first.log.durableLsn).toBe(101n)
    first.end()
    if (where !== '') machine.capacity = machine.usedBytes + 10
    const second = await start(machine, 101n)
    second.log.prune(100n)
    expect(second.log.durableLsn).toBe(102n)
    second.end()
    machine.cutPower()
    const third = await start(machine, 102n)
    expect(third.log.damages).toEqual([])
    expect(await taken(third.log, 100n)).toEqual(['101', '102'])
    expect([...machine.files.keys()]).toEqual(['/log/000000000001.segment'])
  },
)

describe('a segment of which the disk gives less once it is written again', () => {
  /** A log of one segment, begun again while pages that could not be written go from memory, before each read that `forgets`. */
  async function startAgain(forgets: (read: number) => boolean) {
    const machine = new SimulatedLocalDisk({ next: () => 0 })
    const first = await start(machine, 0n, undefined, 1e6)
    await first.log.begin(100n, state)
    for (let lsn = 101n; lsn <= 160n; lsn++) {
      first.log.append(transaction(lsn), lsn, true)
      await first.log.sync()
    }
    first.end()
    let reads = 0
    const forget = ({ operation, path }: DiskCall) => {
      const file = machine.files.get(path)
      if (operation === 'read' && file !== undefined && forgets(++reads)) file.bytes = file.bytes.subarray(0, file.bytes.length - 200)
      return false
    }
    return start(machine, 101n, forget)
  }

  test('is not believed: it is read again', async () => {
    const { log } = await startAgain((read) => read === 2)
    const { endLsn } = log.status.range!
    expect(endLsn).toBeLessThan(160n)
    expect(await taken(log, 100n)).toEqual(numbers(101, Number(endLsn)))
  })

  test('and again, is told', async () => {
    await expect(startAgain(() => true)).rejects.toMatchObject({ kind: 'retry', code: 'LOG_DISK_FAILED' })
  })
})

test('whatever fails, and whenever processes end and power is cut, what was durable stays', async () => {
  const process = fc.record({ failing: fc.nat(30), count: fc.nat(12), isCut: fc.boolean(), isFull: fc.boolean() })
  await fc.assert(
    fc.asyncProperty(fc.array(process, { minLength: 2, maxLength: 6 }), fc.infiniteStream(fc.nat(99)), async (processes, draws) => {
      const draw = () => draws.next().value! / 100
      const machine = new SimulatedLocalDisk({ next: draw })
      let durable = 100n
      for (const { failing, count, isCut, isFull } of processes) {
        machine.capacity = isFull ? machine.usedBytes + 500 : Number.POSITIVE_INFINITY
        const fails = ({ operation }: DiskCall) => operation !== 'read' && operation !== 'list' && draw() * 100 < failing
        const started = await start(machine, durable, fails).catch(() => null)
        if (started !== null) {
          const { log, end } = started
          const { range } = log.status
          if (range === null) expect(durable).toBe(100n)
          else expect(await taken(log, 100n)).toEqual(numbers(101, Number(range.endLsn)))
          let lsn = range?.endLsn ?? 100n
          expect(lsn).toBeGreaterThanOrEqual(durable)
          await log.begin(lsn, state)
          log.prune(100n)
          for (let index = 0; index < count; index++) {
            log.append(transaction(++lsn), lsn, true)
            await log.sync()
            durable = log.durableLsn ?? durable
          }
          durable = log.durableLsn ?? durable
          end()
        }
        if (isCut) machine.cutPower()
      }
      const { log } = await start(machine, durable)
      expect(log.status.range?.endLsn ?? 100n).toBeGreaterThanOrEqual(durable)
    }),
    { numRuns: 300 },
  )
})
