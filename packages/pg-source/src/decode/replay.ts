import { LEAD_BYTES, type SpooledTransaction, type SpoolReader } from '../spool/index.ts'
import type { PgoutputDecoder } from './pgoutput-decoder.ts'
import type { CommitPoint } from './stream-messages.ts'
import { beginPayload, commitPayload, WAL, WAL_HEADER_BYTES } from './wal-message.ts'

/** Bytes of messages decoded at a time. */
const PART_BYTES = 2 * 1024 * 1024

// The reader of a spool leaves so much room before the first message.
if (LEAD_BYTES < WAL_HEADER_BYTES) throw new RangeError('a spooled message has room for its header')

/** A spooled transaction that has committed and is decoded, part by part, as if the server sent it now. */
export class Replay {
  private readonly decoder: PgoutputDecoder
  private readonly spooled: SpooledTransaction
  private readonly commit: CommitPoint
  private readonly reader: SpoolReader
  /** The reader's present message waits for an answer, and is fed again. */
  private isHeld = false

  constructor(decoder: PgoutputDecoder, spooled: SpooledTransaction, commit: CommitPoint) {
    this.decoder = decoder
    this.spooled = spooled
    this.commit = commit
    this.reader = spooled.read()
    decoder.feed(beginPayload(commit.commitLsn, commit.xid))
  }

  /** Bytes left to decode. */
  get leftBytes(): number {
    return this.spooled.totalBytes
  }

  /** Decodes a part, less where a question arises. True once there is no more of the transaction, which its Commit is still to end. */
  decodePart(): boolean {
    const { reader } = this
    for (let bytes = 0; bytes < PART_BYTES;) {
      if (!this.isHeld && !reader.next()) return true
      const { end, start } = reader
      // The header of a message goes where its forerunner was: so no byte is copied.
      const from = start - WAL_HEADER_BYTES
      reader.bytes[from] = WAL
      this.decoder.feed(reader.bytes.subarray(from, end))
      this.isHeld = this.decoder.question !== null
      if (this.isHeld) return false
      bytes += end - start
    }
    return false
  }

  /** Decodes its Commit, and gives the spool back. */
  end(): void {
    this.remove()
    this.decoder.feed(commitPayload(this.commit.bytes))
  }

  /** Gives the spool back. */
  remove(): void {
    this.spooled.remove()
  }
}
