import { setTimeout as sleep } from 'node:timers/promises'
import {
  conformBatch,
  isMoonlinkError,
  silentLogger,
  systemClock,
  systemRandom,
  valueAt,
  type Lsn,
  type SourceEvent,
  type TableSchema,
  type Value,
} from '@moonlink/core'
import { PositionSet } from '@moonlink/deletion-log'
import { MemoryTableStorage } from '@moonlink/testkit'
import { expect } from 'vitest'
import { defaultEngineLimits, type EngineLimits } from './limits.ts'
import { Engine } from './engine.ts'
import { copyBeside } from './copy-beside.test.support.ts'
import type { Step } from './engine-steps.test.support.ts'
import type { Mirror } from './mirror.ts'
import { RESYNC_PROPERTY, SOURCE_STATE_PROPERTY, type ResyncSource } from './mirror-spec.ts'
import { keyedSchemas } from './testing/keyed-schemas.ts'
import { reshape, valueOf } from './testing/reshapes.ts'
import { columnsText, readContent, rowText, ScriptedTable, type Row } from './testing/scripted-table.ts'
import { simulatedDisk, simulatedIndexes } from './testing/simulated.ts'
import { watermark } from './testing/watermark.ts'

export const schemas: Readonly<Record<string, TableSchema>> = { ...keyedSchemas, 'an int key': withIntKey(keyedSchemas['a long key']) }

function withIntKey({ fields: [id, ...others], identifierFieldIds }: TableSchema): TableSchema {
  return { fields: [{ ...id, type: { kind: 'int' } }, ...others], identifierFieldIds }
}

export const limits: EngineLimits = {
  ...defaultEngineLimits,
  flushIntervalMs: 3_600_000,
  // So little that a few rows of an open transaction are worth a file.
  earlyFileBytes: 256,
  compaction: { ...defaultEngineLimits.compaction, minFiles: 3 },
  expiry: { minSnapshots: 3, maxAgeMs: 0, intervalMs: 3_600_000 },
}

/** One engine with one table, driven step by step beside the model. */
export class Run {
  readonly source: ScriptedTable
  readonly storage: MemoryTableStorage
  engine!: Engine
  private lsn = 100n
  private openChanges = 0
  private nextId = 100
  private sent: Lsn = 0n
  /** Everything sent so far, to send again after a restart. */
  private log: SourceEvent[] = []
  private beside: Promise<void>[] = []
  private sending: Promise<void> = Promise.resolve()
  readonly reads = { above: 0, below: 0 }
  private readonly disk = simulatedDisk()

  private readonly limits: EngineLimits

  constructor(schema: TableSchema, own: EngineLimits = limits) {
    this.limits = own
    this.source = new ScriptedTable(schema)
    this.storage = new MemoryTableStorage(this.source.table, schema)
  }

  async start(): Promise<void> {
    // Whoever takes a table over keeps out what is under way.
    this.storage.failNextSettles = 0
    await this.storage.settle()
    this.engine = new Engine({
      clock: systemClock,
      random: systemRandom,
      logger: silentLogger,
      ...simulatedIndexes(this.disk),
      limits: this.limits,
    })
    const mirror = await this.addMirror()
    if (mirror.committedLsn === null) await mirror.finishCopy(0n)
    if (this.storage.snapshot.properties[RESYNC_PROPERTY]) await this.resync(true)
  }

  private addMirror(): Promise<Mirror> {
    return this.engine.addMirror({
      table: this.source.table,
      schema: this.storage.snapshot.schema,
      sourceState: this.storage.snapshot.properties[SOURCE_STATE_PROPERTY] ?? null,
      storage: this.storage,
      appendOnly: false,
    })
  }

  async do(step: Step): Promise<void> {
    const { source } = this
    switch (step.kind) {
      case 'insert':
        return this.change(() => {
          const row = this.rowOf(step.key, step.text)
          if (this.isFree(row)) source.insert(row)
        })
      case 'update':
        return this.change(() =>
          this.withRow(step.at, (at, row) =>
            source.update(at, [...row.slice(0, 2), ...this.rowOf(0, step.text).slice(2)], step.unchanged ? [2] : []),
          ),
        )
      case 'move':
        return this.change(() =>
          this.withRow(step.at, (at, row) => {
            const moved: Row = [...this.rowOf(step.key, '').slice(0, 2), ...row.slice(2)]
            if (this.isFree(moved)) source.update(at, moved, [2])
          }),
        )
      case 'delete':
        return this.change(() => this.withRow(step.at, (at) => source.delete(at)))
      case 'truncate':
        return this.change(() => source.truncate())
      case 'add column':
      case 'drop column':
      case 'rename column':
      case 'widen column':
      case 'change key':
        return this.change(() => reshape(source, step, this.nextId++))
      case 'commit':
        return this.commit()
      case 'send':
        return this.send()
      case 'flush':
        if (this.openChanges > 0) this.commit()
        await this.send()
        return this.engine.flush().catch(ignoreRetry)
      case 'flush beside':
        this.beside.push(this.engine.flush().catch(ignoreRetry))
        return
      case 'tick':
        return this.engine.tick()
      case 'write early':
        await this.send()
        await this.engine.mirror('public.t')?.memory.writeEarly()
        return
      case 'write early beside':
        this.beside.push(Promise.resolve(this.engine.mirror('public.t')?.memory.writeEarly()).then(() => undefined, ignoreRetry))
        return
      case 'memory is short':
        await this.send()
        return this.engine.mirror('public.t')?.memory.releaseCaches()
      case 'pass time':
        // What a tick began ends meanwhile.
        return sleep(5)
      case 'fail before':
      case 'fail after':
      case 'fail late':
        this.storage.failNext.push(step.kind === 'fail before' ? 'before' : step.kind === 'fail after' ? 'after' : 'late')
        return
      case 'deliver late':
        return this.storage.deliverLate()
      case 'fail settle':
        this.storage.failNextSettles++
        return
      case 'read':
        return this.read()
      case 'restart':
        await this.settle()
        await this.engine.close()
        await this.start()
        return this.resend()
      case 'lost stream':
        // In the middle of a transaction too: what was sent of it is taken back and sent again.
        return this.loseStream()
      case 'pause':
        return this.engine.mirror('public.t')?.pauseFor('PAUSED', 'by request').catch(ignoreRetry)
      case 'pause beside':
        this.beside.push(Promise.resolve(this.engine.mirror('public.t')?.pauseFor('PAUSED', 'by request')).catch(ignoreRetry))
        return
      case 'resync':
        return this.resync(false)
      case 'send beside':
        void this.send()
        return
    }
  }

  private async loseStream(): Promise<void> {
    await this.sending
    const isWhole = await this.reset()
    await this.resend(isWhole ? this.engine.streamedLsn : this.engine.restartLsn())
  }

  /** Begins to make the table equal to its source; the copy goes on beside. */
  private async resync(isJustOpened: boolean): Promise<void> {
    await this.sending
    const mirror = this.engine.mirror('public.t')
    if (mirror === undefined) return
    if (this.openChanges > 0) this.commit()
    try {
      await mirror.beginResync('by request', this.sourceNow(isJustOpened))
    } catch (error) {
      return ignoreRetry(error)
    }
    mirror.awaitSnapshot()
    if (!isJustOpened) await this.loseStream()
    const copied = copyBeside(this, mirror)
    copied.catch(() => undefined)
    this.beside.push(copied)
  }

  /** After a copy that failed, while changes come: the next begins with another mirror. */
  async reopen(): Promise<Mirror> {
    if (this.openChanges > 0) this.commit()
    const opened = Promise.withResolvers<Mirror>()
    await this.engine.reopenMirror('public.t', async () => {
      const mirror = await this.addMirror()
      await mirror.beginResync('anew', this.sourceNow(true))
      mirror.awaitSnapshot()
      opened.resolve(mirror)
    })
    return opened.promise
  }

  private sourceNow(isJustOpened: boolean): ResyncSource {
    const { schema, sourceState } = this.source.history.at(-1)!
    return { shape: { schema, sourceState }, asOfLsn: this.lsn, isAnew: false, isJustOpened }
  }

  /** Until it is known which commit is the last. */
  private async reset(): Promise<boolean> {
    for (;;) {
      try {
        return await this.engine.resetOpenTransaction()
      } catch (error) {
        ignoreRetry(error)
      }
    }
  }

  async finish(): Promise<void> {
    this.commit()
    await this.send()
    await this.settle()
    this.storage.failNext.length = this.storage.failNextSettles = 0
    while (this.engine.mirror('public.t')!.currentPhase !== 'streaming') {
      await this.resync(false)
      await this.settle()
    }
    await this.engine.mirror('public.t')!.caughtUp()
    await this.engine.flush()
    await this.read()
    expect(this.storage.current.properties[SOURCE_STATE_PROPERTY] ?? 'shape 0').toBe(this.source.sourceState)
    expect(this.engine.status()[0]).toMatchObject({ state: 'streaming', rows: this.source.rows.length })
    await this.engine.close()
    expect(this.storage.unreferenced).toEqual([])
  }

  private change(apply: () => void): void {
    apply()
    this.openChanges++
  }

  private commit(): void {
    this.lsn += 10n
    this.source.endTransaction(this.lsn)
    this.openChanges = 0
  }

  /** The source commits something that is not of this table. */
  async othersCommit(): Promise<void> {
    this.lsn += 10n
    await this.send()
  }

  /** Sends what there is, in the middle of a transaction too. */
  private send(): Promise<void> {
    return (this.sending = this.sending.then(() => this.sendNow()))
  }

  private async sendNow(): Promise<void> {
    const { lsn, openChanges } = this
    const events = this.source.take()
    this.log.push(...events)
    for (const event of events) await this.engine.apply(event)
    if (openChanges > 0) return
    this.sent = lsn
    await this.engine.apply(watermark(lsn))
  }

  /** The source sends everything again that the engine asks for: whole transactions, from `restartLsn` on. */
  private async resend(fromLsn = this.engine.restartLsn()): Promise<void> {
    for (const event of this.log.slice(this.firstNeeded(fromLsn))) await this.engine.apply(event)
    await this.send()
    if (this.openChanges > 0) await this.engine.apply(watermark(this.sent, this.lsn))
  }

  /** Index of the first event that brings something of a transaction that ends after `lsn`. */
  private firstNeeded(lsn: Lsn): number {
    let first = 0
    this.log.forEach((event, index) => {
      if (event.kind !== 'batch') return
      const { ops, marks } = event.batch
      const last = marks.endLsns.at(-1)
      if (last !== undefined && last <= lsn && marks.changeCounts.at(-1) === ops.length) first = index + 1
    })
    return first
  }

  private async settle(): Promise<void> {
    if (this.openChanges > 0) this.commit()
    // A flush may wait for the end of a transaction that is committed but not sent yet.
    await this.send()
    await Promise.all(this.beside.splice(0))
  }

  private async read(): Promise<void> {
    this.readAtRest()
    const applied = this.engine.appliedLsn
    const mirror = this.engine.mirror('public.t')
    if (mirror === undefined) return
    // Between two transactions' ends too, and below the floor, where older snapshots may be exact.
    for (const lsn of this.source.history.flatMap((moment) => [moment.lsn, moment.lsn + 5n])) {
      const { floor } = mirror.reads
      // What is committed may be later than the stream: such a read would wait.
      if (lsn > applied || mirror.reads.readableFrom > this.engine.streamedLsn) continue
      const isRetained = () => mirror.reads.retainedRanges().some(({ fromLsn, throughLsn }) => fromLsn <= lsn && lsn <= throughLsn)
      const wasRetained = isRetained()
      const readable = () => (mirror.currentPhase === 'streaming' ? lsn : (mirror.reads.whilePaused ?? mirror.reads.whileResyncing ?? -1n))
      const wasReadable = lsn <= readable()
      const lease = await this.engine.acquire({ tables: ['public.t'], lsn, timeoutMs: 1000 }).catch((error: unknown) => {
        if (
          isMoonlinkError(error) &&
          refusals.includes(error.code) &&
          !(wasReadable && lsn <= readable() && this.engine.mirror('public.t') === mirror)
        )
          return null
        // A flush or an expiry beside may raise the floor meanwhile.
        const isBelow = lsn < mirror.reads.floor && !(wasRetained && isRetained())
        if (isMoonlinkError(error) && error.code === 'LSN_NOT_HELD' && isBelow) return null
        throw error
      })
      if (lease === null) continue
      this.reads[lsn < floor ? 'below' : 'above']++
      expect(readContent(lease.tables.get('public.t')!, this.storage), `at ${lsn}, floor ${floor}`).toEqual(this.source.contentAt(lsn))
      lease.release()
    }
  }

  /** What readers of the Iceberg table see. */
  private readAtRest(): void {
    const { committedLsn, schema, files, vectors } = this.storage.current
    const texts: string[] = []
    for (const { path } of files) {
      const { columns, length } = conformBatch(this.storage.rowsOf(path), schema.fields)
      const vector = vectors.find(({ dataFile }) => dataFile === path)
      const dead = vector ? PositionSet.fromPortable(vector.bitmap) : null
      for (let row = 0; row < length; row++) if (!dead?.has(row)) texts.push(rowText(columns.map((column) => valueAt(column, row))))
      dead?.dispose()
    }
    expect([columnsText(schema), ...texts.sort()], `at rest at ${committedLsn}`).toEqual(this.source.contentAt(committedLsn!))
  }

  private rowOf(key: number, text: string): Row {
    const { fields } = this.source.schema
    const id = fields[0].type.kind === 'int' ? key : BigInt(key)
    return [id, `k${key % 7}`, text, ...fields.slice(3).map(({ type, required }) => valueOf(type, required ? 'x' : text))]
  }

  private isFree(row: Row): boolean {
    if (this.source.schema.identifierFieldIds.length === 0) return true
    const key = this.source.keyText(row)
    return !this.source.rows.some((other) => this.source.keyText(other) === key)
  }

  private withRow(at: number, apply: (at: number, row: readonly Value[]) => void): void {
    if (this.source.rows.length === 0) return
    const index = at % this.source.rows.length
    apply(index, this.source.rows[index])
  }
}

/** Why a table that is paused or copied can't be read. */
const refusals = ['TABLE_PAUSED', 'TABLE_RESYNCING', 'TABLE_COPYING', 'TABLE_CLOSED']

function ignoreRetry(error: unknown): void {
  if (!isMoonlinkError(error, 'retry')) throw error
}
