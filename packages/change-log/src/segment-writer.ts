import type { LogDisk, LogFile } from './log-disk.ts'
import type { LogPlace, Segment } from './recover.ts'
import type { RecordBuffer } from './record-buffer.ts'
import { encodeHeader, segmentName, type SegmentHeader } from './segment-format.ts'

/** The segment that is being written. Calls must not overlap; after one has failed, only `abandon`. */
export class SegmentWriter {
  readonly segment: Segment
  private readonly file: LogFile
  private syncedLength = 0
  /** Where the last transaction ends in what was written; null where none does. */
  private writtenEnd: LogPlace | null = null

  private constructor(file: LogFile, segment: Segment) {
    this.file = file
    this.segment = segment
  }

  /** Makes the file. Its header is safe before any record is written, where the disk can append. */
  static async create(disk: LogDisk, header: SegmentHeader): Promise<SegmentWriter> {
    const { sequence, startLsn, isCut, isSession } = header
    const name = segmentName(sequence)
    const file = await disk.create(name)
    const bytes = encodeHeader(header)
    const { length } = bytes
    const segment = { sequence, name, startLsn, isCut, isSession, headerLength: length, length, fileBytes: length }
    const writer = new SegmentWriter(file, segment)
    try {
      await file.write(bytes)
      if (disk.canAppend) await writer.sync()
    } catch (error) {
      await writer.abandon()
      throw error
    }
    return writer
  }

  get unsyncedBytes(): number {
    return this.segment.fileBytes - this.syncedLength
  }

  async write(buffer: RecordBuffer): Promise<void> {
    const { segment } = this
    const { end } = buffer
    const bytes = buffer.seal(this.syncedLength)
    await this.file.write(bytes)
    if (end !== null) this.writtenEnd = { sequence: segment.sequence, offset: segment.fileBytes + end.length }
    segment.fileBytes += bytes.length
    segment.length = segment.fileBytes
  }

  /** Returns where the last transaction ends that is safe now, or null where that is not in this segment. */
  async sync(): Promise<LogPlace | null> {
    const { fileBytes } = this.segment
    await this.file.sync()
    this.syncedLength = fileBytes
    return this.writtenEnd
  }

  async close(): Promise<void> {
    await this.file.close()
  }

  async abandon(): Promise<void> {
    await this.file.close().catch(() => {})
  }
}
