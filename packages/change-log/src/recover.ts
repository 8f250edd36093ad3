import { formatLsn, MoonlinkError, type Lsn } from '@moonlink/core'
import type { LogDisk } from './log-disk.ts'
import { readRecord, wasSynced } from './record-format.ts'
import { epochOf, parseHeader, segmentName, segmentSequence, type ParsedHeader } from './segment-format.ts'

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
  readonly names: readonly string[]
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
  /** What is wrong behind `validLength`. */
  readonly trouble: 'none' | 'torn' | 'corrupt'
}

/** Reads every segment of the log `log` and finds out what can be replayed. */
export async function recoverLog(disk: LogDisk, log: string): Promise<RecoveredLog> {
  const files = (await disk.list())
    .flatMap((name) => {
      const sequence = segmentSequence(name)
      return sequence === null ? [] : [{ name, sequence }]
    })
    .sort((a, b) => a.sequence - b.sequence)
  const scanned: { readonly name: string; readonly segment: ScannedSegment | null; readonly bytes: Buffer | null }[] = []
  for (const [index, { name, sequence }] of files.entries()) {
    const bytes = await disk.read(name)
    const header = parseHeader(bytes, disk.locate(name))
    if (header === null) scanned.push({ name, segment: null, bytes })
    else if (header.log === log)
      scanned.push({ name, segment: scanSegment(header, name, sequence, bytes, index === files.length - 1), bytes: null })
  }
  const builder = new RunBuilder(
    disk,
    scanned.flatMap(({ segment }) => (segment === null ? [] : [segment])),
  )
  const lastName = files.at(-1)?.name
  for (const { name, segment, bytes } of scanned) {
    if (segment === null) builder.unreadable(name, bytes!, name === lastName)
    else builder.add(segment, name === lastName)
  }
  return { ...builder.finish(), names: files.map(({ name }) => name), lastSequence: files.at(-1)?.sequence ?? 0 }
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
    trouble: isWhole ? 'none' : isLast && !wasSynced(bytes, offset) ? 'torn' : 'corrupt',
  }
}

/** Puts segments together in their order. */
class RunBuilder {
  private readonly disk: LogDisk
  private runs: LogRun[] = []
  private current: ScannedSegment[] = []
  /** What lies between the last run and the next is reported already. */
  private isBreakKnown = true
  /** Segments behind the current ones whose headers can't be read: what comes next tells whether anything in them counted. */
  private readonly unread: string[] = []
  private readonly damages: MoonlinkError[] = []
  private readonly notes: string[] = []
  private readonly segments: readonly ScannedSegment[]
  /** Where a holder of the lease went on from what an earlier one had written. */
  private readonly crossings: readonly ScannedSegment[]

  /** `segments`: all that can be read, in their order. */
  constructor(disk: LogDisk, segments: readonly ScannedSegment[]) {
    this.disk = disk
    this.segments = segments
    this.crossings = crossingsOf(segments)
  }

  unreadable(name: string, bytes: Buffer, isLast: boolean): void {
    // The header is synced before any record is written.
    if (isLast && !wasSynced(bytes, 0)) {
      this.notes.push(`${this.disk.locate(name)} was being made when the last run ended; it is dropped`)
      return
    }
    this.unread.push(name)
  }

  add(segment: ScannedSegment, isLast: boolean): void {
    const { continues, isCut } = segment.header
    if (this.isPassedOver(segment)) {
      this.dropStale(segment)
      return
    }
    if (continues === null) {
      // The log began anew; what is older was not needed any more.
      this.reportUnread()
      this.runs = []
      this.current = [segment]
    } else if (this.link(segment, continues)) {
      for (const name of this.unread.splice(0))
        this.notes.push(`${this.disk.locate(name)} was being made when an earlier run ended; it is dropped`)
    } else if (this.isGoneBackOn(segment)) {
      this.notes.push(`${this.disk.locate(segment.name)} is left of what the log went back on; it is dropped`)
      return
    } else {
      this.reportUnread()
      this.leaveOutStale(segment)
      if (!this.isBreakKnown) this.damages.push(missing(this.disk.locate(segmentName(continues.sequence))))
      this.breakRun()
      if (!isCut) return
      this.current = [segment]
    }
    this.isBreakKnown = false
    if (isLast && segment.trouble === 'corrupt') this.damages.push(corrupt(this.disk.locate(segment.name), segment.validLength))
    if (isLast && segment.trouble === 'torn') {
      const bytes = segment.fileBytes - segment.validLength
      this.notes.push(`the last ${bytes} bytes of ${this.disk.locate(segment.name)} were never safe and are dropped`)
    }
  }

  finish(): Pick<RecoveredLog, 'runs' | 'damages' | 'notes'> {
    this.reportUnread()
    this.breakRun()
    return { runs: this.runs, damages: this.damages, notes: this.notes }
  }

  /** A later holder of the lease went on from before it: whoever wrote it had lost the lease by then. */
  private isPassedOver(segment: ScannedSegment): boolean {
    return this.crossings.some((later) => passesOver(later, segment) && follows(later, this.current))
  }

  /** What it continues is removed, since whoever wrote both went on from before them, as after a write whose outcome it did not know. */
  private isGoneBackOn({ sequence }: ScannedSegment): boolean {
    return this.segments.some((later) => {
      const { continues } = later.header
      return later.sequence > sequence && continues !== null && continues.sequence < sequence && follows(later, this.current)
    })
  }

  /** Appends the segment to the current run, where that has what it continues. */
  private link(segment: ScannedSegment, continues: LogPlace): boolean {
    const at = this.current.findIndex(({ sequence }) => sequence === continues.sequence)
    if (at < 0) return false
    const before = this.current[at]
    if (continues.offset > before.validLength) {
      this.damages.push(corrupt(this.disk.locate(before.name), before.validLength))
      this.isBreakKnown = true
      return false
    }
    // Later segments held only what was not continued.
    this.current.length = at + 1
    before.length = continues.offset
    this.current.push(segment)
    return true
  }

  /**
   * What an earlier holder of the lease wrote and no later one goes on from: it had lost the lease by then, and what the later ones went on from was
   * removed as not needed any more.
   */
  private leaveOutStale({ sequence }: ScannedSegment): void {
    const last = this.current.at(-1)
    if (last === undefined || epochOf(last.sequence) === epochOf(sequence)) return
    this.dropStale(last)
    this.current = []
    this.isBreakKnown = true
  }

  /** What comes next does not go on from before them. */
  private reportUnread(): void {
    if (this.unread.length === 0) return
    for (const name of this.unread.splice(0)) this.damages.push(corrupt(this.disk.locate(name), 0))
    this.breakRun()
  }

  private dropStale({ name }: ScannedSegment): void {
    this.notes.push(`${this.disk.locate(name)} was written by a backend that another had taken over from; it is dropped`)
  }

  private breakRun(): void {
    this.isBreakKnown = true
    if (this.current.length === 0) return
    this.runs.push(toRun(this.current))
    this.current = []
  }
}

/** But for those of holders that had lost the lease by then themselves: of two, the later one knew what there was. */
function crossingsOf(segments: readonly ScannedSegment[]): ScannedSegment[] {
  const found: ScannedSegment[] = []
  for (const segment of segments.toReversed()) {
    const { continues } = segment.header
    if (continues === null || epochOf(continues.sequence) === epochOf(segment.sequence)) continue
    if (!found.some((later) => passesOver(later, segment) && follows(later, segments))) found.push(segment)
  }
  return found
}

/** Whether the later one was begun by a later holder of the lease, which went on from before the other. */
function passesOver(later: ScannedSegment, { sequence }: ScannedSegment): boolean {
  const { continues } = later.header
  return epochOf(later.sequence) > epochOf(sequence) && continues !== null && continues.sequence < sequence
}

/** Whether what the segment continues is among those. */
function follows({ header: { continues } }: ScannedSegment, segments: readonly ScannedSegment[]): boolean {
  return continues !== null && segments.some((before) => before.sequence === continues.sequence && before.validLength >= continues.offset)
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
  'Changes that are only in it are lost to the log; where the source has let go of them too, the tables that miss them are copied again.'

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
