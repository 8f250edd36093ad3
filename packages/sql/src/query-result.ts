import type { Lsn } from '@moonlink/core'
import type { DuckDBDataChunk } from '@duckdb/node-api'
import { rowsOf, type Cell } from './cells.ts'

export interface ResultColumn {
  readonly name: string
  /** As DuckDB prints it: `BIGINT`, `DECIMAL(18,2)`, `TIMESTAMP WITH TIME ZONE`, `VARCHAR[]`. */
  readonly type: string
}

/** Where a result's chunks come from, and what its end gives back. */
export interface ResultSource {
  fetch(): Promise<DuckDBDataChunk | null>
  release(): Promise<void>
}

/**
 * The rows of a query, as they are computed. Until they are read to their end, or `close` is called, the result holds its lease
 * and a connection.
 */
export class QueryResult {
  /** The LSN that every table was read at; null where the statement reads no table. */
  readonly lsn: Lsn | null
  readonly columns: readonly ResultColumn[]
  private readonly source: ResultSource
  private readonly maxRows: number
  private delivered = 0
  private cutShort = false
  private closing: Promise<void> | null = null

  constructor(lsn: Lsn | null, columns: readonly ResultColumn[], source: ResultSource, maxRows: number) {
    this.lsn = lsn
    this.columns = columns
    this.source = source
    this.maxRows = maxRows
  }

  /** Rows delivered so far. */
  get rowCount(): number {
    return this.delivered
  }

  /** True once rows were left out because of `maxRows`. */
  get truncated(): boolean {
    return this.cutShort
  }

  /**
   * Chunks of at most 2,048 rows; call it once. Ends early, without an error, when the result is closed. Throws what `SqlEngine.query`
   * throws, for errors that come up only now.
   */
  async *rows(): AsyncGenerator<readonly (readonly Cell[])[]> {
    try {
      while (this.closing === null) {
        const chunk = await this.source.fetch()
        if (chunk === null) return
        const rows = rowsOf(chunk)
        const room = this.maxRows - this.delivered
        this.cutShort = rows.length > room
        if (this.cutShort) rows.length = room
        this.delivered += rows.length
        if (rows.length > 0) yield rows
        if (this.cutShort) return
      }
    } catch (error) {
      if (this.closing === null) throw error
    } finally {
      await this.close()
    }
  }

  /** Stops the query if it still runs, and releases what it holds. May be called more than once. */
  close(): Promise<void> {
    this.closing ??= this.source.release()
    return this.closing
  }
}
