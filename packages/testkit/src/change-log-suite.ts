import type { ChangeLog, Lsn } from '@moonlink/core'
import * as fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import { LoggedSource } from './logged-source.ts'

/** One place where a log can be. */
export interface ChangeLogUnderTest {
  /** Opens the log that is there. A sync happens only when asked for; a segment ends beyond `segmentBytes`. */
  open(options: { readonly sourceFromLsn: Lsn; readonly segmentBytes: number; readonly maxBytes: number }): Promise<ChangeLog>
  /** The process that has it open dies; what was not synced may be lost. `seed` decides how much. */
  crash(seed: number): Promise<void>
}

const small = { segmentBytes: 300, maxBytes: 1_000_000 }

/** Begins a session whose two transactions nothing but the log has. */
async function neededBy(log: ChangeLog): Promise<LoggedSource> {
  const source = new LoggedSource(100n)
  await source.begin(log)
  log.prune(100n)
  source.transaction(log, 2)
  await log.sync()
  return source
}

/** What core's `ChangeLog` port promises, as tests. `factory` gives an empty place for each test. */
export function describeChangeLog(name: string, factory: () => Promise<ChangeLogUnderTest>): void {
  describe(`${name}: the ChangeLog contract`, () => {
    let place: ChangeLogUnderTest
    beforeEach(async () => {
      place = await factory()
    })
    const open = (sourceFromLsn: Lsn = 0n, limits = small) => place.open({ sourceFromLsn, ...limits })

    test('an empty log has nothing; what is synced is there again', async () => {
      const log = await open()
      expect(log.status.range).toBeNull()
      expect(log.durableLsn).toBeNull()
      const source = new LoggedSource(100n)
      await source.begin(log)
      log.prune(100n)
      expect(log.durableLsn).toBe(100n)
      source.transaction(log, 3)
      await log.sync()
      expect(log.durableLsn).toBe(source.endLsn)
      await log.close()
      const again = await open(source.endLsn)
      expect(again.status.range).toEqual({ startLsn: 100n, endLsn: source.endLsn })
      expect(again.durableLsn).toBeNull()
      again.prune(100n)
      expect(again.durableLsn).toBe(source.endLsn)
      await source.expectReplay(again, 100n)
      await again.close()
    })

    test('what comes between two syncs may be more than one buffer of the log', async () => {
      const log = await place.open({ sourceFromLsn: 0n, segmentBytes: 2 ** 30, maxBytes: 2 ** 30 })
      const source = new LoggedSource(100n)
      await source.begin(log)
      // Buffers are of a mebibyte; once it has drained, the log uses them again.
      for (let part = 0; part < 60; part++) {
        source.transaction(log, 4000)
        if (part % 12 === 11) await new Promise((resolve) => setImmediate(resolve))
      }
      await log.sync()
      await log.close()
      const again = await open(source.endLsn)
      await source.expectReplay(again, 100n)
      await again.close()
    })

    test('a transaction that had not ended is not replayed, and is continued by the next session alone', async () => {
      const log = await open()
      const source = new LoggedSource(100n)
      await source.begin(log)
      source.transaction(log, 2)
      source.openTransaction(log, 40)
      await log.sync()
      await source.expectReplay(log, 100n)
      await source.begin(log)
      source.transaction(log, 2)
      await log.sync()
      await source.expectReplay(log, 100n)
      await log.close()
      const again = await open(source.endLsn)
      await source.expectReplay(again, 100n)
      await again.close()
    })

    test('prune lets go of whole segments, and the rest can be replayed', async () => {
      const log = await open()
      const source = new LoggedSource(100n)
      await source.begin(log)
      log.prune(100n)
      for (let index = 0; index < 30; index++) {
        source.transaction(log, 4)
        await log.sync()
      }
      const { byteSize } = log.status
      const middle = source.lsns[20]
      expect(log.isPrunable(source.lsns[0])).toBe(false)
      expect(log.isPrunable(middle)).toBe(true)
      log.prune(middle)
      expect(log.isPrunable(middle)).toBe(false)
      expect(log.status.byteSize).toBeLessThan(byteSize)
      const { startLsn } = log.status.range!
      expect(startLsn).toBeGreaterThan(100n)
      expect(startLsn).toBeLessThanOrEqual(middle)
      await source.expectReplay(log, middle)
      await expect(take(log, startLsn - 1n)).rejects.toMatchObject({ code: 'LOG_LSN_NOT_HELD' })
      await log.close()
      const again = await open(source.endLsn)
      expect(again.status.range).toEqual({ startLsn, endLsn: source.endLsn })
      await source.expectReplay(again, middle)
      await again.close()
    })

    test('at its bound it stops, keeps what it has, and begins anew once that is not needed', async () => {
      const log = await open(0n, { segmentBytes: 4000, maxBytes: 30_000 })
      const source = new LoggedSource(100n)
      await source.begin(log)
      log.prune(100n)
      while (log.status.trouble === null) source.transaction(log, 4)
      await log.sync()
      expect(log.status.trouble).toMatch(/bound of 30000 bytes/)
      expect(log.status.byteSize).toBeLessThan(33_000)
      const kept = log.durableLsn!
      expect(kept).toBeLessThan(source.endLsn)
      await source.expectReplay(log, 100n, kept)
      source.transaction(log, 1)
      await log.sync()
      expect(log.durableLsn).toBe(kept)
      expect(log.isPrunable(kept)).toBe(true)
      log.prune(kept)
      source.transaction(log, 1)
      expect(log.status.trouble).toBeNull()
      const begun = source.endLsn
      expect(log.durableLsn).toBeNull()
      source.transaction(log, 1)
      await log.sync()
      expect(log.isPrunable(begun)).toBe(true)
      log.prune(begun)
      expect(log.durableLsn).toBe(source.endLsn)
      await source.expectReplay(log, begun)
      await log.close()
    })

    test('a session that does not follow on what is needed stops it; on what is not, it begins anew', async () => {
      const log = await open()
      const source = await neededBy(log)
      const first = source.endLsn
      source.skip(50n)
      await source.begin(log)
      expect(log.status.trouble).toMatch(/did not reach the log/)
      expect(log.durableLsn).toBe(first)
      log.prune(first)
      await source.begin(log)
      expect(log.status).toMatchObject({ trouble: null, range: { startLsn: source.endLsn, endLsn: source.endLsn } })
      await log.close()
    })

    test('the session that begins last counts, also where the one before it is still beginning', async () => {
      const log = await open()
      const source = await neededBy(log)
      const first = source.endLsn
      const before = source.begin(log)
      source.skip(50n)
      await Promise.all([before, source.begin(log)])
      expect(log.status.trouble).toMatch(/did not reach the log/)
      source.transaction(log, 2)
      await log.sync()
      expect(log.durableLsn).toBe(first)
      await log.close()
    })

    test('a second writer fences off the first', async () => {
      const log = await open()
      const source = new LoggedSource(100n)
      await source.begin(log)
      source.transaction(log, 1)
      await log.sync()
      const other = await open(source.endLsn)
      await source.begin(other)
      for (let index = 0; index < 20; index++) {
        if (log.status.trouble !== null) break
        source.transaction(log, 4)
        await log.sync()
      }
      expect(() => source.transaction(log, 1)).toThrow(expect.objectContaining({ kind: 'fenced', code: 'LOG_FENCED' }))
      await other.close()
    })

    test('through syncs, sessions, crashes and prunes it has what it said was durable, and nothing that never ended', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), async (steps) => {
          place = await factory()
          const run = new Run(place)
          await run.start()
          for (const next of steps) await run.do(next)
          await run.finish()
        }),
        { numRuns: 150 },
      )
    })
  })
}

async function take(log: ChangeLog, after: Lsn): Promise<void> {
  for await (const entry of log.replay(after)) void entry
}

type Step =
  | { kind: 'transaction' | 'open' | 'stream' | 'end stream'; changes: number }
  | { kind: 'sync' | 'session' | 'restart' | 'mark' }
  | { kind: 'crash'; seed: number }
  | { kind: 'prune'; back: number }

const changes = fc.nat(30)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('transaction' as const), changes }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('open' as const), changes }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('stream' as const), changes }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('end stream' as const), changes }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('sync' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('mark' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('session' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('crash' as const), seed: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('prune' as const), back: fc.nat(5) }) },
)

/** A log and its source, step by step. The source forgets what the log says is durable. */
class Run {
  private readonly place: ChangeLogUnderTest
  private readonly source = new LoggedSource(100n)
  private log!: ChangeLog
  /** What the source was told it may forget, and what is safe elsewhere. */
  private acknowledged: Lsn = 100n
  private pruned: Lsn = 100n

  constructor(place: ChangeLogUnderTest) {
    this.place = place
  }

  async start(): Promise<void> {
    this.log = await this.place.open({ sourceFromLsn: this.acknowledged, ...small })
    this.log.prune(this.pruned)
    const { range } = this.log.status
    if (range === null) expect(this.acknowledged).toBe(this.pruned)
    else {
      expect(range.startLsn).toBeLessThanOrEqual(this.pruned)
      expect(range.endLsn).toBeGreaterThanOrEqual(this.acknowledged)
      expect(range.endLsn).toBeLessThanOrEqual(this.source.endLsn)
    }
    await this.connect()
  }

  /** Opens a session at the log's end: the source sends again what the log has not. */
  private async connect(): Promise<void> {
    await this.log.sync()
    this.source.rewind(this.log.status.range?.endLsn ?? this.pruned)
    if (this.log.status.range !== null) await this.source.expectReplay(this.log, this.pruned)
    await this.source.begin(this.log)
    expect(this.log.status.trouble).toBeNull()
  }

  async do(step: Step): Promise<void> {
    const { log, source } = this
    switch (step.kind) {
      case 'transaction':
        return source.transaction(log, step.changes)
      case 'open':
        source.openTransaction(log, step.changes)
        return source.closeTransaction(log)
      case 'stream':
        return source.stream(log, step.changes)
      case 'end stream':
        return source.endStream(log, step.changes)
      case 'mark':
        return source.mark(log)
      case 'sync':
        await log.sync()
        this.acknowledge()
        return
      case 'session':
        source.openTransaction(log, 2)
        return this.connect()
      case 'restart':
        await log.close()
        this.acknowledge()
        return this.start()
      case 'crash':
        this.acknowledge()
        await this.place.crash(step.seed)
        return this.start()
      case 'prune': {
        const through = source.lsns.filter((lsn) => lsn <= this.acknowledged).at(-1 - step.back)
        if (through !== undefined && through > this.pruned) this.pruned = through
        return log.prune(this.pruned)
      }
    }
  }

  async finish(): Promise<void> {
    await this.log.sync()
    this.acknowledge()
    expect(this.acknowledged).toBe(this.source.endLsn)
    await this.source.expectReplay(this.log, this.pruned)
    await this.log.close()
  }

  private acknowledge(): void {
    const durable = this.log.durableLsn
    expect(durable).not.toBeNull()
    expect(durable!).toBeGreaterThanOrEqual(this.acknowledged)
    this.acknowledged = durable!
  }
}
