import type { DuckDBPreparedStatement } from '@duckdb/node-api'

/** A prepared statement holds a file descriptor for each of its scans. */
const MAX_FILES = 64
const MAX_STATEMENTS = 8

export interface ReadStatement {
  readonly sql: string
  /** What it was planned over. */
  readonly state: string
  readonly prepared: DuckDBPreparedStatement
  readonly fileCount: number
}

interface KeptStatement extends ReadStatement {
  readonly keptMs: number
}

/** Prepared statements of one connection that nobody runs now, each with the state of the tables it was planned over; the oldest go first. */
export class KeptStatements {
  private readonly statements = new Map<string, KeptStatement>()
  private fileCount = 0

  /** Whether `take` would find one. */
  has(sql: string, state: string): boolean {
    return this.statements.get(sql)?.state === state
  }

  /** Hands it over, to be kept again or destroyed; null where there is none. */
  take(sql: string, state: string): DuckDBPreparedStatement | null {
    return this.has(sql, state) ? this.remove(sql)!.prepared : null
  }

  keep(statement: ReadStatement, nowMs: number): void {
    this.drop(statement.sql)
    if (statement.fileCount > MAX_FILES) return statement.prepared.destroySync()
    this.statements.set(statement.sql, { ...statement, keptMs: nowMs })
    this.fileCount += statement.fileCount
    for (const oldest of this.statements.keys()) {
      if (this.statements.size <= MAX_STATEMENTS && this.fileCount <= MAX_FILES) return
      this.drop(oldest)
    }
  }

  /** Drops those kept before then. */
  sweep(keptBeforeMs: number): void {
    for (const [sql, { keptMs }] of this.statements) if (keptMs < keptBeforeMs) this.drop(sql)
  }

  private drop(sql: string): void {
    this.remove(sql)?.prepared.destroySync()
  }

  private remove(sql: string): ReadStatement | undefined {
    const kept = this.statements.get(sql)
    if (kept === undefined) return undefined
    this.statements.delete(sql)
    this.fileCount -= kept.fileCount
    return kept
  }
}
