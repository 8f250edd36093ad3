import type { SegmentId } from '@moonlink/core'
import { BIGINT, DuckDBDataChunk, UINTEGER, type DuckDBAppender, type DuckDBConnection } from '@duckdb/node-api'
import duckdb from '@duckdb/node-bindings'
import type { DeletesView } from '@moonlink/union-read'
import { CHUNK_ROWS } from './chunk-writer.ts'

/** Sequence numbers `[from, to)`. */
interface SeqRange {
  readonly from: number
  to: number
}

/**
 * Dead rows of one incarnation as a native table (segment, row, seq). A row of it says: that place is dead in every plan whose
 * `endSeq` is above `seq`. Such a fact is true for good, so facts of plans at any LSN lie side by side and are never taken back.
 *
 * What is tracked is which facts are *all* there: the ranges of log entries, and for each segment the bases loaded. A base as of
 * `firstSeq` is loaded as facts with seq `firstSeq - 1`: it serves every plan with `endSeq >= firstSeq` for which the entries from
 * `firstSeq` on are there too.
 */
export class DeletesTable {
  readonly name: string
  users = 0
  lastUsedMs = 0
  /** Facts held, repeated ones included. */
  factCount = 0
  private readonly connection: DuckDBConnection
  private readonly appender: DuckDBAppender
  private readonly chunk = DuckDBDataChunk.create([UINTEGER, UINTEGER, BIGINT])
  private readonly segments = new Uint32Array(CHUNK_ROWS)
  private readonly rows = new Uint32Array(CHUNK_ROWS)
  private readonly seqs = new BigInt64Array(CHUNK_ROWS)
  private readonly seqWords = new Uint32Array(this.seqs.buffer)
  private pending = 0
  private flushedCount = 0
  private readonly entryRanges: SeqRange[] = []
  private readonly bases = new Map<SegmentId, number[]>()
  /** The moved deaths from this sequence number on are there. */
  private readonly movedFrom = new Map<SegmentId, number>()

  private constructor(connection: DuckDBConnection, name: string, appender: DuckDBAppender) {
    this.connection = connection
    this.name = name
    this.appender = appender
  }

  static async create(connection: DuckDBConnection, name: string): Promise<DeletesTable> {
    await connection.run(`CREATE TABLE ${name} (segment UINTEGER, "row" UINTEGER, seq BIGINT)`)
    return new DeletesTable(connection, name, await connection.createAppender(name))
  }

  /** Makes every dead row of the segments in that view readable. Must not overlap with another call. */
  sync(view: DeletesView, segments: readonly SegmentId[]): void {
    this.loadEntries(view)
    for (const segment of segments) this.loadSegment(view, segment)
    this.flush()
  }

  async drop(): Promise<void> {
    this.appender.closeSync()
    await this.connection.run(`DROP TABLE IF EXISTS ${this.name}`)
  }

  private loadEntries(view: DeletesView): void {
    const { firstSeq, endSeq } = view
    let from = firstSeq
    for (const range of this.entryRanges) {
      if (range.to <= from || from >= endSeq) continue
      if (range.from > from) this.appendEntries(view, from, Math.min(range.from, endSeq))
      from = range.to
    }
    if (from < endSeq) this.appendEntries(view, from, endSeq)
    this.markEntries(firstSeq, endSeq)
  }

  private appendEntries(view: DeletesView, from: number, to: number): void {
    for (const { firstSeq, rows, segments } of view.chunks(from, to)) {
      for (let index = 0; index < rows.length; index++) this.append(segments[index], rows[index], firstSeq + index)
    }
  }

  /** Adds the range and joins it with those it meets. Ranges stay ascending and apart. */
  private markEntries(from: number, to: number): void {
    if (from >= to) return
    let joined: SeqRange = { from, to }
    const apart: SeqRange[] = []
    for (const range of this.entryRanges) {
      if (range.to < joined.from || range.from > joined.to) apart.push(range)
      else joined = { from: Math.min(range.from, joined.from), to: Math.max(range.to, joined.to) }
    }
    this.entryRanges.length = 0
    this.entryRanges.push(...[...apart, joined].toSorted((a, b) => a.from - b.from))
  }

  private loadSegment(view: DeletesView, segment: SegmentId): void {
    const { firstSeq, endSeq } = view
    if (firstSeq < (this.movedFrom.get(segment) ?? Number.POSITIVE_INFINITY)) {
      this.movedFrom.set(segment, firstSeq)
      const moved = view.moved(segment)
      for (let index = 0; index < moved.rows.length; index++) this.append(segment, moved.rows[index], moved.seqs[index])
    }
    const bases = this.bases.get(segment) ?? []
    this.bases.set(segment, bases)
    if (bases.some((baseSeq) => baseSeq <= endSeq && this.hasEntries(baseSeq, endSeq))) return
    const rows = view.base(segment)
    for (let index = 0; index < rows.length; index++) this.append(segment, rows[index], firstSeq - 1)
    bases.push(firstSeq)
  }

  private hasEntries(from: number, to: number): boolean {
    return from === to || this.entryRanges.some((range) => range.from <= from && range.to >= to)
  }

  private append(segment: SegmentId, row: number, seq: number): void {
    const at = this.pending
    this.segments[at] = segment
    this.rows[at] = row
    this.seqWords[at * 2] = seq >>> 0
    this.seqWords[at * 2 + 1] = Math.floor(seq / 0x1_0000_0000)
    this.factCount++
    if (++this.pending === CHUNK_ROWS) this.appendChunk()
  }

  private appendChunk(): void {
    if (this.pending === 0) return
    this.chunk.reset()
    this.chunk.rowCount = this.pending
    const columns = [this.segments, this.rows, this.seqs]
    columns.forEach((column, index) => {
      const vector = duckdb.data_chunk_get_vector(this.chunk.chunk, index)
      duckdb.copy_data_to_vector(vector, 0, column.buffer, 0, this.pending * column.BYTES_PER_ELEMENT)
    })
    this.appender.appendDataChunk(this.chunk)
    this.pending = 0
  }

  private flush(): void {
    if (this.factCount === this.flushedCount) return
    this.appendChunk()
    this.appender.flushSync()
    this.flushedCount = this.factCount
  }
}
