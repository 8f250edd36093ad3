import { formatLsn, isMoonlinkError, MoonlinkError, type Lsn } from '@moonlink/core'
import type { LogDisk } from './log-disk.ts'
import { readAhead } from './read-ahead.ts'
import { readRecord, wasSynced } from './record-format.ts'
import { epochOf, parseHeader, segmentName, segmentSequence, type ParsedHeader } from './segment-format.ts'

export const RECOVER_ATTEMPTS = 5

/** A place between two records. */
export interface LogPlace {
  readonly sequence: number
  readonly offset: number
}

export interface Segment {
  readonly sequence: number
  readonly name: string
  readonly startLsn: Lsn
  readonly isCut: boolean
  readonly isSession: boolean
  readonly headerLength: number
  /** The records that count end here. */
  length: number
  fileBytes: number
}

/** Segments that follow one another without a gap. */
export interface LogRun {
  readonly segments: Segment[]
  readonly endLsn: Lsn
  /** Where the last transaction in it ends. */
  readonly end: LogPlace
}

export interface RecoveredLog {
  /** Oldest first; more than one where something between them is damaged or missing. */
  readonly runs: readonly LogRun[]
  /** Every segment file found, ours or not. */
  readonly files: readonly { readonly name: string }[]
  readonly lastSequence: number
  /** What is not as it was written. */
  readonly damages: readonly MoonlinkError[]
  /** What was never safe and is dropped, for the records. */
  readonly notes: readonly string[]
}

interface ScannedSegment extends Segment {
  readonly header: ParsedHeader
  /** Where reading stopped: the file's end, or a record that is none. */
  readonly validLength: number
  readonly lastEnd: { readonly offset: number; readonly lsn: Lsn } | null
  /** What is wrong behind `validLength`, in the last one; whether that matters of another is told by what goes on from it. */
  readonly trouble: 'none' | 'torn' | 'corrupt'
}

/** A segment whose header can't be read. */
interface UnreadSegment {
  readonly name: string
  readonly sequence: number
  /** It was complete once. */
  readonly wasSafe: boolean
}

/** Reads every segment of the log `log` and finds out what can be replayed. A predecessor may still be removing segments that it had found to be needed no more. */
export async function recoverLog(disk: LogDisk, log: string): Promise<RecoveredLog> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await readLog(disk, log)
    } catch (error) {
      if (!isMoonlinkError(error) || error.code !== 'OBJECT_NOT_FOUND' || attempt === RECOVER_ATTEMPTS) throw error
    }
  }
}

async function readLog(disk: LogDisk, log: string): Promise<RecoveredLog> {
  const files = (await disk.list())
    .flatMap((name) => {
      const sequence = segmentSequence(name)
      return sequence === null ? [] : [{ name, sequence }]
    })
    .sort((a, b) => a.sequence - b.sequence)
  const last = files.at(-1)
  const segments: ScannedSegment[] = []
  const unread: UnreadSegment[] = []
  for await (const { bytes, item: file } of readAhead(files, disk.readsAtOnce, ({ name }) => disk.read(name, true))) {
    const { name, sequence } = file
    const header = parseHeader(bytes, disk.locate(name))
    if (header?.log === log) segments.push(scanSegment(header, name, sequence, bytes, file === last))
    else if (header !== null) continue
    // Where records can be appended, the header is synced before the first is written; else a segment appears as a whole.
    else unread.push({ ...file, wasSafe: !disk.canAppend || wasSynced(bytes, 0) })
  }
  const newest = segments.at(-1)?.sequence ?? 0
  const unfinished = new Set(unread.filter(({ sequence, wasSafe }) => sequence > newest && !wasSafe))
  const notes = Array.from(unfinished, ({ name }) => `${disk.locate(name)} was being made when a run ended; it is dropped`)
  const damaged = unread.filter((one) => !unfinished.has(one))
  const found = new RunFinder(disk, segments, damaged).find()
  return { ...found, notes: [...found.notes, ...notes], files, lastSequence: last?.sequence ?? 0 }
}

/** Has what was found in a segment survive a crash, whoever wrote it. False where the disk gives less of it by then. */
export async function makeSafe(disk: LogDisk, { name, sequence, length }: Segment): Promise<boolean> {
  await disk.sync(name)
  if (!disk.canAppend) return true
  // What a disk could not write is there only as long as memory keeps it: it may have gone after it was found.
  const bytes = await disk.read(name)
  const header = parseHeader(bytes, disk.locate(name))
  return header !== null && scanSegment(header, name, sequence, bytes, false).validLength >= length
}

function scanSegment(header: ParsedHeader, name: string, sequence: number, bytes: Buffer, isLast: boolean): ScannedSegment {
  let offset = header.length
  let lastEnd: ScannedSegment['lastEnd'] = null
  for (let record = readRecord(bytes, offset); record !== null; record = readRecord(bytes, offset)) {
    offset = record.next
    if (record.endLsn !== null) lastEnd = { offset, lsn: record.endLsn }
  }
  const isWhole = offset === bytes.length
  const { startLsn, isCut, isSession } = header
  return {
    header,
    name,
    sequence,
    startLsn,
    isCut,
    isSession,
    headerLength: header.length,
    length: offset,
    fileBytes: bytes.length,
    validLength: offset,
    lastEnd,
    trouble: isWhole || !isLast ? 'none' : wasSynced(bytes, offset) ? 'corrupt' : 'torn',
  }
}

/**
 * Follows the log back from its newest segment: each names the one it goes on from, and how much of that counts. What none goes on from is no part of the log, whoever wrote
 * it: a holder that had lost the lease by then, or one that went back on it, as after a write whose outcome it did not know.
 */
class RunFinder {
  private readonly disk: LogDisk
  /** What is older than all that was looked at, in its order. */
  private readonly segments: ScannedSegment[]
  private readonly unread: UnreadSegment[]
  /** Newest first, all three. */
  private readonly runs: LogRun[] = []
  private readonly damages: MoonlinkError[] = []
  private readonly notes: string[] = []

  constructor(disk: LogDisk, segments: ScannedSegment[], unread: UnreadSegment[]) {
    this.disk = disk
    this.segments = segments
    this.unread = unread
  }

  find(): Pick<RecoveredLog, 'runs' | 'damages' | 'notes'> {
    for (let last = this.segments.pop(); last !== undefined; last = this.segments.pop()) {
      this.reportUnreadAfter(last.sequence)
      this.reportTrouble(last)
      const run = [last]
      for (let before = this.predecessor(last); before !== null; before = this.predecessor(before)) run.push(before)
      const first = run.findLastIndex(({ isCut }) => isCut)
      if (first >= 0) this.runs.push(toRun(run.slice(0, first + 1).reverse()))
    }
    this.reportUnreadAfter(0)
    return { runs: this.runs.reverse(), damages: this.damages.reverse(), notes: this.notes.reverse() }
  }

  /** Takes the segment that this one goes on from, where there is as much of it. */
  private predecessor({ header: { continues }, sequence }: ScannedSegment): ScannedSegment | null {
    const { segments, unread } = this
    if (continues === null) {
      // The log began anew; what is older was not needed any more.
      segments.length = unread.length = 0
      return null
    }
    this.dropAfter(continues.sequence)
    const before = segments.at(-1)
    if (before?.sequence !== continues.sequence) {
      this.reportGap(continues.sequence, sequence)
      return null
    }
    if (before.validLength < continues.offset) {
      this.damages.push(corrupt(this.disk.locate(before.name), before.validLength))
      return null
    }
    before.length = continues.offset
    return segments.pop()!
  }

  /** The segment `missed`, which the one at `sequence` goes on from, is not there, or can't be read. */
  private reportGap(missed: number, sequence: number): void {
    const before = this.segments.at(-1)
    if (before === undefined || this.unread.at(-1)?.sequence === missed) return
    if (epochOf(before.sequence) === epochOf(sequence)) this.damages.push(missing(this.disk.locate(segmentName(missed))))
    // Whoever wrote it had lost the lease by then, and what was gone on from is removed, as not needed any more.
    else this.dropAfter(0)
  }

  /** Nothing that can be read tells whether the log went on from them. */
  private reportUnreadAfter(sequence: number): void {
    for (const { name } of takeAfter(this.unread, sequence)) this.damages.push(corrupt(this.disk.locate(name), 0))
  }

  private dropAfter(sequence: number): void {
    for (const { name } of [...takeAfter(this.unread, sequence), ...takeAfter(this.segments, sequence)])
      this.notes.push(`the log went on without ${this.disk.locate(name)}; it is dropped`)
  }

  private reportTrouble({ name, fileBytes, trouble, validLength }: ScannedSegment): void {
    const file = this.disk.locate(name)
    if (trouble === 'corrupt') this.damages.push(corrupt(file, validLength))
    if (trouble === 'torn') this.notes.push(`the last ${fileBytes - validLength} bytes of ${file} were never safe and are dropped`)
  }
}

/** Takes those out of the list that come after `sequence`: newest first. */
function takeAfter<T extends { readonly sequence: number }>(list: T[], sequence: number): T[] {
  return list.splice(list.findLastIndex((one) => one.sequence <= sequence) + 1).reverse()
}

function toRun(segments: ScannedSegment[]): LogRun {
  for (let index = segments.length - 1; index >= 0; index--) {
    const segment = segments[index]
    const next = segments[index + 1]
    if (segment.length < segment.validLength) return run(segments, next.startLsn, segment.sequence, segment.length)
    if (segment.lastEnd !== null) return run(segments, segment.lastEnd.lsn, segment.sequence, segment.lastEnd.offset)
  }
  const [first] = segments
  return run(segments, first.startLsn, first.sequence, first.headerLength)
}

function run(segments: Segment[], endLsn: Lsn, sequence: number, offset: number): LogRun {
  return { segments, endLsn, end: { sequence, offset } }
}

const remedy =
  'Changes that are only in it are lost to the log; where the source has let go of them too, the tables that miss them are made equal to it by comparing.'

export function corrupt(file: string, offset: number): MoonlinkError {
  return new MoonlinkError('corrupt', 'LOG_CORRUPT', `${file} is damaged at byte ${offset}: check its disk. ${remedy}`, {
    context: { file, offset },
  })
}

function missing(file: string): MoonlinkError {
  return new MoonlinkError('corrupt', 'LOG_SEGMENT_MISSING', `${file} is missing from the log. ${remedy}`, { context: { file } })
}

/** For people: what a run has. */
export function describeRun({ segments, endLsn }: LogRun): string {
  return `${formatLsn(segments[0].startLsn)} to ${formatLsn(endLsn)}`
}
