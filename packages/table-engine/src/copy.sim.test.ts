import {
  appendValue,
  BatchBuilder,
  silentLogger,
  systemClock,
  systemRandom,
  type CopyRange,
  type Lsn,
  type SourceEvent,
  type TableSchema,
} from '@moonlink/core'
import { loadRoaring } from '@moonlink/deletion-log'
import { MemoryTableStorage } from '@moonlink/testkit'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { Engine } from './engine.ts'
import { defaultEngineLimits } from './limits.ts'
import type { Mirror } from './mirror.ts'
import { keyedSchemas } from './testing/keyed-schemas.ts'
import { readPlan, rowText, ScriptedTable, type Row } from './testing/scripted-table.ts'
import { simulatedDisk, simulatedIndexes, simulatedRuns } from './testing/simulated.ts'
import { watermark } from './testing/watermark.ts'

beforeAll(() => loadRoaring())
const PAGES = 8
const RANGES: readonly CopyRange[] = [
  { from: 0, to: 2 },
  { from: 2, to: 4 },
  { from: 4, to: 6 },
  { from: 6, to: null },
]
const KEYS = 24

interface Change {
  readonly kind: 'insert' | 'update' | 'keep' | 'move' | 'delete' | 'commit'
  readonly at: number
  readonly key: number
  readonly page: number
  readonly big: string | null
}

const change: fc.Arbitrary<Change> = fc.record({
  kind: fc.constantFrom('insert', 'insert', 'update', 'keep', 'keep', 'move', 'delete', 'commit', 'commit'),
  at: fc.nat(),
  key: fc.nat(KEYS - 1),
  page: fc.nat(PAGES - 1),
  big: fc.option(fc.constantFrom('a', 'b', 'long '.repeat(8))),
})

const attempt = fc.record({
  /** Ranges read to the end, and whether rows of another are read too. */
  ranges: fc.nat(3),
  isPartial: fc.boolean(),
  isCrash: fc.boolean(),
  during: fc.array(change, { maxLength: 8 }),
  after: fc.array(change, { maxLength: 12 }),
})

/** Engines that crashed: nobody closes what they had open, a collector least of all. */
const crashed: Engine[] = []

/** A table with pages: a row that is updated moves to any of them. */
class PagedTable {
  readonly source: ScriptedTable
  private places: { page: number; since: Lsn }[] = []
  lsn: Lsn = 100n
  /** Everything the stream sends, each event with the end of its transaction. */
  readonly sent: { event: SourceEvent; endLsn: Lsn }[] = []

  constructor(schema: TableSchema) {
    this.source = new ScriptedTable(schema)
  }

  apply({ at, big, key, kind, page }: Change): void {
    const { source } = this
    if (kind === 'commit') return this.commit()
    const place = { page, since: this.lsn + 10n }
    const row: Row = [BigInt(key), `n${key}`, big]
    const isFree = source.schema.identifierFieldIds.length === 0 || !source.rows.some((known) => known[0] === row[0])
    if (kind === 'insert') {
      if (!isFree) return
      source.insert(row)
      this.places.push(place)
      return
    }
    if (source.rows.length === 0) return
    const index = at % source.rows.length
    const old = source.rows[index]
    if (kind === 'delete') {
      source.delete(index)
      this.places.splice(index, 1)
      return
    }
    if (kind === 'move' && !isFree) return
    if (kind === 'move') source.update(index, [row[0], row[1], old[2]], [2])
    else if (kind === 'keep') source.update(index, old, [2])
    else source.update(index, [old[0], old[1], big])
    this.places[index] = place
  }

  commit(): void {
    this.source.endTransaction((this.lsn += 10n))
    for (const event of this.source.take()) this.sent.push({ event, endLsn: this.lsn })
  }

  /** The rows now, with their places. No transaction is open. */
  snapshot() {
    return this.source.rows.map((row, index) => ({ row, ...this.places[index] }))
  }
}

class Run {
  readonly table: PagedTable
  readonly storage: MemoryTableStorage
  private readonly disk = simulatedDisk()
  private indexes = simulatedIndexes(this.disk)
  private readonly schema: TableSchema
  engine!: Engine
  mirror!: Mirror
  private sentTo = 0
  readonly totals: { resumed: number; reread: number }

  constructor(schema: TableSchema, totals: { resumed: number; reread: number }) {
    this.schema = schema
    this.totals = totals
    this.table = new PagedTable(schema)
    this.storage = new MemoryTableStorage(this.table.source.table, schema)
  }

  /** Also after a crash: nobody closed the engine before. */
  async start(): Promise<void> {
    // Where the one before crashed, it does nothing more.
    this.indexes.disk.end()
    this.indexes = simulatedIndexes(this.disk)
    this.engine = new Engine({
      clock: systemClock,
      random: systemRandom,
      logger: silentLogger,
      ...this.indexes,
      limits: {
        ...defaultEngineLimits,
        flushIntervalMs: 3_600_000,
        flushBytes: 1500,
        earlyFileBytes: 800,
        copyFileBytes: 300,
        compaction: { ...defaultEngineLimits.compaction, enabled: false },
      },
    })
    const { schema, storage } = this
    this.mirror = await this.engine.addMirror({ table: storage.table, schema, storage, appendOnly: false })
    const restartLsn = this.engine.restartLsn()
    this.sentTo = this.table.sent.findIndex(({ endLsn }) => endLsn > restartLsn)
    if (this.sentTo < 0) this.sentTo = this.table.sent.length
  }

  async pump(): Promise<void> {
    const { sent } = this.table
    for (; this.sentTo < sent.length; this.sentTo++) {
      const { endLsn, event } = sent[this.sentTo]
      await this.engine.apply(event)
      const isLast = sent[this.sentTo + 1]?.endLsn !== endLsn
      if (isLast) await this.engine.apply(watermark(endLsn, this.table.lsn))
    }
    await this.engine.apply(watermark(this.table.lsn))
  }

  /** One snapshot: so many ranges of those left, then it ends; or all, and the copy is over. */
  async session(
    { during, isPartial, ranges }: { ranges: number; isPartial: boolean; during: readonly Change[] },
    isLast: boolean,
  ): Promise<void> {
    const { mirror, table } = this
    table.commit()
    const boundaryLsn = table.lsn
    const rows = table.snapshot()
    const done = await mirror.beginCopy({ boundaryLsn, storage: '1/1', horizon: String(boundaryLsn) })
    if (done.length > 0) this.totals.resumed++
    const left = RANGES.filter(({ from }) => !done.some((range) => range.from === from))
    const inRange = ({ from, to }: CopyRange) => rows.filter(({ page }) => from <= page && (to === null || page < to))
    const changes = [...during]
    for (const range of isLast ? left : left.slice(0, ranges)) {
      const found = inRange(range)
      await mirror.appendCopied(this.batchOf(found.slice(0, found.length / 2)), range)
      for (const each of changes.splice(0, 4)) table.apply(each)
      await this.pump()
      await mirror.appendCopied(this.batchOf(found.slice(found.length / 2)), range)
      await mirror.finishCopiedRange(range)
    }
    if (!isLast) {
      const range = left[ranges]
      if (isPartial && range !== undefined) await mirror.appendCopied(this.batchOf(inRange(range).slice(0, 3)), range)
      return
    }
    // Changes of a transaction that is open at the end wait.
    await this.pump()
    await mirror.finishCopy(boundaryLsn, async (again, horizon, take) => {
      this.totals.reread++
      for (const range of again) {
        const changed = inRange(range).filter(({ since }) => since > BigInt(horizon))
        await take(this.batchOf(changed), range)
      }
    })
    await this.check(boundaryLsn, this.textsOf(rows.map(({ row }) => row)))
  }

  async check(lsn: Lsn | null, expected: readonly string[]): Promise<void> {
    const lease = await this.engine.acquire({ tables: ['public.t'], lsn, timeoutMs: 5000 })
    expect(readPlan(lease.tables.get('public.t')!, this.storage)).toEqual(expected)
    lease.release()
  }

  textsOf(rows: readonly Row[]): string[] {
    return rows.map(rowText).sort()
  }

  private batchOf(rows: readonly { readonly row: Row }[]) {
    const builder = new BatchBuilder(this.schema.fields)
    for (const { row } of rows) row.forEach((value, column) => appendValue(builder.builders[column], value))
    return builder.view()
  }
}

describe.each(Object.entries(keyedSchemas))('%s', (name, schema) => {
  test(
    'a copy that is cut off, by a crash or not, goes on and has what the source has, whatever changed and moved meanwhile',
    { timeout: 120_000 },
    async () => {
      const totals = { resumed: 0, reread: 0 }
      const arbitrary = fc.record({
        before: fc.array(change, { minLength: 10, maxLength: 60 }),
        attempts: fc.array(attempt, { maxLength: 3 }),
        last: fc.array(change, { maxLength: 8 }),
        later: fc.array(change, { maxLength: 8 }),
      })
      await fc.assert(
        fc.asyncProperty(arbitrary, async ({ attempts, before, last, later }) => {
          const run = new Run(schema, totals)
          for (const each of before) run.table.apply(each)
          run.table.commit()
          await run.start()
          for (const { after, isCrash, ...rest } of attempts) {
            await run.session(rest, false)
            for (const each of after) run.table.apply(each)
            if (isCrash) {
              crashed.push(run.engine)
              await run.start()
            }
            await run.pump()
          }
          await run.session({ ranges: 0, isPartial: false, during: last }, true)
          for (const each of later) run.table.apply(each)
          run.table.commit()
          await run.pump()
          const { lsn, source } = run.table
          await run.check(lsn, run.textsOf(source.rows))
          await run.mirror.flush()
          await run.check(lsn, run.textsOf(source.rows))
          await run.engine.close()
          await run.start()
          await run.pump()
          await run.check(null, run.textsOf(source.rows))
          await run.engine.flush()
          await run.engine.close()
          expect(run.storage.unreferenced).toEqual([])
        }),
        simulatedRuns(60),
      )
      if (name === 'no key') return expect(totals.resumed).toBe(0)
      expect(totals.resumed).toBeGreaterThan(10)
      expect(totals.reread).toBeGreaterThan(2)
    },
  )
})
