import {
  isMoonlinkError,
  MoonlinkError,
  type Clock,
  type ColumnBatch,
  type CopyRange,
  type Logger,
  type SourceTable,
  type TableCopy,
  type Telemetry,
} from '@moonlink/core'
import { isRefusal, type Mirror } from '@moonlink/table-engine'
import { toMoonlinkError } from '../http/errors.ts'
import { allSettledOrThrow } from './all-settled.ts'
import { CopyProgress } from './copy-progress.ts'
import type { SourceHandle } from './parts.ts'
import { isSlotLoss } from './slot-loss.ts'
import { isStoreTrouble } from './store-trouble.ts'

export interface CopyOptions {
  readonly source: Pick<SourceHandle, 'copy' | 'currentLsn'>
  readonly parallelTables: number
  readonly clock: Clock
  readonly logger: Logger
  readonly telemetry: Pick<Telemetry, 'span' | 'count'>
  /** By table, while it is read: kept here. */
  readonly progress: Map<string, CopyProgress>
  /** What is being read: kept here. */
  readonly reading: Set<Mirror>
  /** By table, why its copy is to be tried again: kept here. */
  readonly troubles: Map<string, string>
  /** Gives a mirror anew that was being made equal to its source again: for another attempt. */
  readonly reset: (table: string) => Promise<Mirror>
  /** Goes on once the warehouse takes files again, rather than throw `STORE_FULL` or `STORE_CREDENTIALS`. */
  readonly waitsForStore: boolean
}

/** A mirror that is copied, and for which of its attempts: that is over where it was paused, and somebody else copies it where it is made equal anew then. */
interface Attempt {
  readonly mirror: Mirror
  readonly number: number
}

/** By what attempts failed, of those that are to be tried again. */
type Failures = Map<Attempt, MoonlinkError>

const attemptOf = (mirror: Mirror): Attempt => ({ mirror, number: mirror.copyAttempt })
const isOver = ({ mirror, number }: Attempt) => mirror.copyAttempt !== number || mirror.currentPhase === 'paused'

function refuseOver(attempt: Attempt): void {
  if (isOver(attempt)) throw new MoonlinkError('retry', 'COPY_STOPPED', `${attempt.mirror.name} is paused, or copied anew.`)
}

const retryPauseMs = 2000
const streamPollMs = 50

/**
 * Copies tables, several at a time, all as of one LSN. After a lost connection another snapshot is taken, in which tables with a key go on where they were; a value that
 * can't be mirrored pauses its table alone, as does what keeps it alone from being read (it was dropped, may not be read, has changed its shape since it was listed: then it is taken on as it is by then). Resolves when every table is copied or paused, or the
 * signal ends it; throws what the warehouse says where it takes no files. One that fails alone by what may pass comes last when they go on.
 */
export async function copyTables(mirrors: readonly Mirror[], options: CopyOptions, signal: AbortSignal) {
  try {
    await copyUntilDone(mirrors, options, signal)
  } finally {
    for (const { name } of mirrors) options.troubles.delete(name)
  }
}

async function copyUntilDone(mirrors: readonly Mirror[], options: CopyOptions, signal: AbortSignal) {
  let left: readonly Attempt[] = mirrors.map(attemptOf)
  let isCutOff = false
  while (left.length > 0 && !signal.aborted) {
    const copied = new Set<string>()
    const failed: Failures = new Map()
    try {
      const ready = isCutOff ? await takeUp(left, failed, options) : left
      left = [...ready, ...failed.keys()]
      isCutOff = false
      if (ready.length > 0) await copyOnce(ready, copied, failed, options, signal)
      for (const error of failed.values()) throw error
      return
    } catch (thrown) {
      if (signal.aborted) return
      const error = toMoonlinkError(thrown)
      const isLasting = error.kind === 'invalid' || error.code === 'PG_SCHEMA_CHANGED'
      const refused = isLasting ? left.find(({ mirror }) => mirror.name === error.context['table']) : undefined
      left = left.filter((attempt) => attempt !== refused && !copied.has(attempt.mirror.name) && !isOver(attempt))
      if (refused !== undefined) {
        // One that somebody paused or dropped meanwhile is nobody's concern here any more.
        if (!isOver(refused)) await refused.mirror.pause(error.code === 'PG_SCHEMA_CHANGED' ? 'SCHEMA_CHANGED' : error.code, error.message)
        continue
      }
      if (left.length === 0) return
      // One that alone fails keeps none behind it from its turn.
      left = [...left.filter((attempt) => !failed.has(attempt)), ...left.filter((attempt) => failed.has(attempt))]
      // Who mends a lost slot ends this copy and begins another.
      const mayPass = error.kind === 'retry' || isSlotLoss(error) || (options.waitsForStore && isStoreTrouble(error))
      if (!mayPass) throw error
      const isPlanned = error.code === 'COPY_SNAPSHOT_OLD'
      if (!isPlanned) options.telemetry.count('moonlink_errors_total', 1, { where: 'copy', kind: error.kind, code: error.code })
      const details = { tables: left.length, code: error.code, error: error.message }
      if (isPlanned) options.logger.info('the copy goes on in another snapshot', details)
      else {
        options.logger.warn('the copy was cut off and goes on in another snapshot', details)
        for (const attempt of left) {
          const { code, message } = failed.get(attempt) ?? error
          options.troubles.set(attempt.mirror.name, `its copy is tried again: ${code} ${message}`)
        }
      }
      if (!isPlanned) await options.clock.sleep(retryPauseMs, signal).catch(() => undefined)
      isCutOff = true
    }
  }
}

/**
 * Which are still to be copied: a commit that seemed to fail may have happened. What was compared in part begins anew. Those of which that fails, and may be tried again, are `failed`.
 */
async function takeUp(attempts: readonly Attempt[], failed: Failures, { logger, reset }: CopyOptions): Promise<Attempt[]> {
  // One that was paused stays so, as does one that was dropped then.
  const copying = attempts.filter((attempt) => attempt.mirror.currentPhase === 'copying' && !isOver(attempt))
  const takeUpOne = async ({ mirror }: Attempt) => {
    // One that was reset by an attempt before is closed.
    if (!mirror.isClosed && (await mirror.settleCopy())) {
      logger.info('table copied', { table: mirror.name, rows: mirror.status().rows })
      return mirror
    }
    return mirror.isResyncing ? reset(mirror.name) : mirror
  }
  const all = await allSettledOrThrow(
    copying.map((attempt) =>
      takeUpOne(attempt).catch((thrown: unknown) => {
        if (noteFailure(attempt, thrown, failed).kind !== 'retry') throw thrown
        return null
      }),
    ),
  )
  return all.filter((mirror) => mirror?.currentPhase === 'copying').map((mirror) => attemptOf(mirror!))
}

function noteFailure(attempt: Attempt, thrown: unknown, failed: Failures): MoonlinkError {
  const error = toMoonlinkError(thrown)
  failed.set(attempt, error)
  if (error.kind === 'retry') attempt.mirror.copyFailed(error)
  return error
}

async function copyOnce(
  attempts: readonly Attempt[],
  copied: Set<string>,
  failed: Failures,
  options: CopyOptions,
  signal: AbortSignal,
): Promise<void> {
  for (const { mirror } of attempts) mirror.awaitSnapshot()
  // As the mirror takes rows now, whatever came since: the source refuses it where it has other columns by then.
  const tables = attempts.map((attempt) => ({ attempt, from: { table: attempt.mirror.table, ...attempt.mirror.copiedShape } }))
  const copy = await options.source.copy(
    tables.map(({ from }) => from),
    signal,
  )
  try {
    const waiting = [...tables]
    const lane = async () => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const { attempt, from } = next
        const { mirror } = attempt
        const work = () => copyTable(attempt, from, copy, options, signal)
        await options.telemetry.span('copy', { table: mirror.name, compares: mirror.isResyncing }, work).catch((error: unknown) => {
          noteFailure(attempt, error, failed)
          throw error
        })
        copied.add(mirror.name)
      }
    }
    await allSettledOrThrow(Array.from({ length: Math.min(options.parallelTables, tables.length) }, lane))
  } finally {
    await copy.close()
  }
}

/** Ends without a word where it is over, and pauses a table of which something is damaged, or whose files are refused: those beside it are none the worse for it. */
async function copyTable(attempt: Attempt, from: SourceTable, copy: TableCopy, options: CopyOptions, signal: AbortSignal): Promise<void> {
  const { mirror } = attempt
  options.reading.add(mirror)
  try {
    await readTable(attempt, from, copy, options, signal)
  } catch (error) {
    if (isOver(attempt)) return
    // What is damaged of one table, or may not be written, takes no other with it.
    if (!isMoonlinkError(error) || error.kind === 'retry' || (error.kind !== 'corrupt' && !isRefusal(error.code))) throw error
    await mirror.pause(error.code, error.message)
  } finally {
    options.reading.delete(mirror)
  }
}

async function readTable(attempt: Attempt, from: SourceTable, copy: TableCopy, options: CopyOptions, signal: AbortSignal): Promise<void> {
  refuseOver(attempt)
  const { mirror } = attempt
  const { boundaryLsn } = copy
  const { horizon, storage } = copy.table(from.table)
  const done = await mirror.beginCopy({ boundaryLsn, horizon, storage })
  const progress = new CopyProgress(copy.table(from.table), done, options.clock.nowMs())
  options.progress.set(mirror.name, progress)
  const ofMirror = new Set<unknown>()
  const ofTable = async (work: Promise<void>) =>
    work.catch((error: unknown) => {
      ofMirror.add(error)
      throw error
    })
  const take = async (rows: ColumnBatch, range: CopyRange) => {
    refuseOver(attempt)
    await ofTable(mirror.appendCopied(rows, range))
  }
  const finished = async (range: CopyRange) => {
    refuseOver(attempt)
    await ofTable(mirror.finishCopiedRange(range))
    progress.finished(range)
    options.troubles.delete(mirror.name)
  }
  try {
    await copy.read(from.table, take, { done, finished, mayGoOn: mirror.canGoOn && storage !== null })
  } catch (error) {
    refuseOver(attempt)
    if (ofMirror.has(error) || !isMoonlinkError(error) || error.kind === 'retry') throw error
    return mirror.pause(error.code, error.message)
  } finally {
    options.progress.delete(mirror.name)
  }
  while (mirror.lacksChangesTo(boundaryLsn)) {
    signal.throwIfAborted()
    refuseOver(attempt)
    // An idle source says where it is only when asked.
    await options.source.currentLsn().catch(() => undefined)
    await options.clock.sleep(streamPollMs, signal)
  }
  refuseOver(attempt)
  await mirror.finishCopy(boundaryLsn, (ranges, since, take) => copy.readChanged(from.table, ranges, since, take))
  options.logger.info('table copied', { table: mirror.name, rows: mirror.status().rows })
}
