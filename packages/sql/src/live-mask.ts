import { setImmediate } from 'node:timers/promises'
import type { SegmentId } from '@moonlink/core'
import { DuckDBDataChunk, UTINYINT, type DuckDBConnection } from '@duckdb/node-api'
import duckdb from '@duckdb/node-bindings'
import { CHUNK_ROWS } from './chunk-writer.ts'

/** Rows appended before other work gets a turn: about two milliseconds. */
const SLICE_ROWS = 64 * CHUNK_ROWS

/** DuckDB gives each column, and its nulls, a block of 256 KiB for every 122,880 rows of a table in memory. */
export const GROUP_ROWS = 122_880
export const GROUP_BYTES = 512 * 1024

export interface MaskContent {
  readonly segment: SegmentId
  /** A 1 or 0 for each row of the file. */
  readonly live: Uint8Array<ArrayBuffer>
  readonly fromSeq: number
  readonly toSeq: number
}

/** What the mask of a file of so many rows takes of DuckDB's memory. */
export function maskBytes(rowCount: number): number {
  return Math.ceil(rowCount / GROUP_ROWS) * GROUP_BYTES
}

/** The rows `[fromRow, toRow)` of a file's mask: a native table of one column, `live`, 1 or 0, in the file's order. */
export interface MaskPart {
  readonly name: string
  readonly fromRow: number
  readonly toRow: number
  readonly isLast: boolean
}

/**
 * Which rows of one file live. It is what plans with an `endSeq` from `fromSeq` to `toSeq` show, and never changes. A part is read by
 * one thread.
 */
export class LiveMask {
  readonly parts: readonly MaskPart[]
  readonly segment: SegmentId
  readonly liveCount: number
  readonly byteSize: number
  readonly fromSeq: number
  /** Grows while no row of the file dies. */
  toSeq: number
  users = 0
  lastUsedMs = 0
  private readonly connection: DuckDBConnection

  private constructor(connection: DuckDBConnection, parts: readonly MaskPart[], { segment, live, fromSeq, toSeq }: MaskContent) {
    this.connection = connection
    this.parts = parts
    this.segment = segment
    this.liveCount = live.reduce((sum, one) => sum + one, 0)
    this.byteSize = maskBytes(live.length)
    this.fromSeq = fromSeq
    this.toSeq = toSeq
  }

  static async create(connection: DuckDBConnection, newName: () => string, partCount: number, content: MaskContent): Promise<LiveMask> {
    const parts = partsOf(content.live.length, partCount).map((part) => ({ name: newName(), ...part }))
    const mask = new LiveMask(connection, parts, content)
    try {
      for (const part of parts) await mask.fill(part, content.live)
    } catch (error) {
      await mask.drop()
      throw error
    }
    return mask
  }

  async drop(): Promise<void> {
    for (const { name } of this.parts) await this.connection.run(`DROP TABLE IF EXISTS ${name}`)
  }

  private async fill({ name, fromRow, toRow }: MaskPart, live: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.connection.run(`CREATE TABLE ${name} (live UTINYINT)`)
    const appender = await this.connection.createAppender(name)
    const chunk = DuckDBDataChunk.create([UTINYINT])
    try {
      for (let from = fromRow; from < toRow; from += CHUNK_ROWS) {
        const count = Math.min(CHUNK_ROWS, toRow - from)
        chunk.reset()
        chunk.rowCount = count
        const vector = duckdb.data_chunk_get_vector(chunk.chunk, 0)
        duckdb.copy_data_to_vector(vector, 0, live.buffer, live.byteOffset + from, count)
        appender.appendDataChunk(chunk)
        if ((from - fromRow + count) % SLICE_ROWS === 0) await setImmediate()
      }
    } finally {
      appender.closeSync()
    }
  }
}

/** About equal parts of whole row groups, of the size that DuckDB and our files have, so that both sides' chunks lie alike. */
function partsOf(rowCount: number, partCount: number): Omit<MaskPart, 'name'>[] {
  const size = Math.ceil(rowCount / GROUP_ROWS / partCount) * GROUP_ROWS
  const parts = []
  for (let fromRow = 0; fromRow < rowCount; fromRow += size) {
    const toRow = Math.min(rowCount, fromRow + size)
    parts.push({ fromRow, toRow, isLast: toRow === rowCount })
  }
  return parts
}
