import { setImmediate } from 'node:timers/promises'
import type { SegmentId } from '@moonlink/core'
import { BOOLEAN, DuckDBDataChunk, type DuckDBConnection } from '@duckdb/node-api'
import duckdb from '@duckdb/node-bindings'
import { CHUNK_ROWS } from './chunk-writer.ts'

/** Rows appended before other work gets a turn: about two milliseconds. */
const SLICE_ROWS = 64 * CHUNK_ROWS

/** DuckDB gives each column, and its nulls, a block of 256 KiB for every 122,880 rows of a table in memory. */
export const GROUP_ROWS = 122_880
export const GROUP_BYTES = 512 * 1024

/** What the mask of a file of so many rows takes of DuckDB's memory. */
export function maskBytes(rowCount: number): number {
  return Math.ceil(rowCount / GROUP_ROWS) * GROUP_BYTES
}

/**
 * Which rows of one file live, as a native table (`live`) with one row for each row of the file, in the file's order. It is what
 * plans with an `endSeq` from `fromSeq` to `toSeq` show, and never changes.
 */
export class LiveMask {
  readonly name: string
  readonly segment: SegmentId
  readonly byteSize: number
  readonly fromSeq: number
  /** Grows while no row of the file dies. */
  toSeq: number
  users = 0
  lastUsedMs = 0
  private readonly connection: DuckDBConnection

  private constructor(connection: DuckDBConnection, name: string, segment: SegmentId, rowCount: number, fromSeq: number, toSeq: number) {
    this.connection = connection
    this.name = name
    this.segment = segment
    this.byteSize = maskBytes(rowCount)
    this.fromSeq = fromSeq
    this.toSeq = toSeq
  }

  /** `live` has a 1 or 0 for each row. */
  static async create(
    connection: DuckDBConnection,
    name: string,
    { segment, live, fromSeq, toSeq }: { segment: SegmentId; live: Uint8Array<ArrayBuffer>; fromSeq: number; toSeq: number },
  ): Promise<LiveMask> {
    const mask = new LiveMask(connection, name, segment, live.length, fromSeq, toSeq)
    await connection.run(`CREATE TABLE ${name} (live BOOLEAN)`)
    try {
      await mask.append(live)
    } catch (error) {
      await mask.drop()
      throw error
    }
    return mask
  }

  async drop(): Promise<void> {
    await this.connection.run(`DROP TABLE IF EXISTS ${this.name}`)
  }

  private async append(live: Uint8Array<ArrayBuffer>): Promise<void> {
    const appender = await this.connection.createAppender(this.name)
    const chunk = DuckDBDataChunk.create([BOOLEAN])
    try {
      for (let from = 0; from < live.length; from += CHUNK_ROWS) {
        const count = Math.min(CHUNK_ROWS, live.length - from)
        chunk.reset()
        chunk.rowCount = count
        const vector = duckdb.data_chunk_get_vector(chunk.chunk, 0)
        duckdb.copy_data_to_vector(vector, 0, live.buffer, live.byteOffset + from, count)
        appender.appendDataChunk(chunk)
        if ((from + count) % SLICE_ROWS === 0) await setImmediate()
      }
    } finally {
      appender.closeSync()
    }
  }
}
