import type { Lsn } from '@moonlink/core'
import type { Uninstalled } from '@moonlink/pg-source'
import type { FlushReport, HealthReport, ReadyReport, StatusReport, TablesReport } from '../http/schemas.ts'
import type { VerifyEvent } from '../verify/verification.ts'
import type { RunningQuery } from './running-query.ts'

export interface QueryRequest {
  readonly sql: string
  /** Null: everything applied by now. */
  readonly atLsn: Lsn | null
  readonly timeoutMs: number
}

export interface WaitRequest {
  /** Null: where the source is now. */
  readonly lsn: Lsn | null
  /** For Iceberg commits, rather than for reads. */
  readonly iceberg: boolean
  readonly timeoutMs: number
}

/** What a running backend does for those who ask. The HTTP API and the command line are made of this. */
export interface Operations {
  health(): HealthReport
  status(): Promise<StatusReport>
  ready(): ReadyReport
  query(request: QueryRequest): Promise<RunningQuery>
  /** Returns the LSN that reads, or Iceberg, now cover. Throws `retry`/`TIMED_OUT`. */
  wait(request: WaitRequest): Promise<Lsn>
  /** What was applied when called is committed when it resolves. `null`: all tables. */
  flush(tables: readonly string[] | null): Promise<FlushReport>
  /** Compares tables with their source, row for row. `null`: all. */
  verify(tables: readonly string[] | null): AsyncIterable<VerifyEvent>
  /** Every table of the source; what is mirrored, where it can't be asked. */
  listTables(): Promise<TablesReport>
  addTables(tables: readonly string[]): Promise<void>
  /** Ends a table's changes until `resyncTable`; the others go on, and the slot is not held for it. */
  pauseTable(table: string): Promise<void>
  /** Makes a table equal to its source again, whatever its state. Begins, and returns. */
  resyncTable(table: string, reason: string): Promise<void>
  /** Keeps the Iceberg table unless `purge`. */
  dropTable(table: string, purge: boolean): Promise<void>
  /** Begins a graceful stop and returns. */
  requestStop(): void
  /** Removes slot and publication from the source, then stops. Returns what was removed. */
  uninstall(): Promise<Uninstalled>
}
