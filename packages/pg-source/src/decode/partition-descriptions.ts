import type { Lsn, TableName } from '@moonlink/core'

/** What a stream says of partitioned tables that are published as one table each. */
export interface PartitionListener {
  /** Rows of a partition come as rows of the table, in a transaction that commits at the LSN; or behind it, where that is not known yet. */
  carried(table: TableName, partitionOid: number, lsn: Lsn): void
  /** A transaction truncated the table, and added nothing to it after. */
  emptied(table: TableName, xid: number): void
}

/**
 * Tells partitions from other relations that are described: the server describes one right behind the table as which it sends the row that follows
 * (`maybe_send_schema`, src/backend/replication/pgoutput/pgoutput.c). Several relations in a row are described before a Truncate too.
 */
export class PartitionDescriptions {
  private readonly listener: PartitionListener | null
  private table: TableName | null = null
  private readonly found: { readonly table: TableName; readonly oid: number }[] = []

  constructor(listener: PartitionListener | null) {
    this.listener = listener
  }

  /** A relation is described, and is mirrored as `mirroredAs`, if it is. */
  relation(oid: number, mirroredAs: TableName | null): void {
    if (mirroredAs === null && this.table !== null) this.found.push({ table: this.table, oid })
    this.table = mirroredAs
  }

  /** What was described was described for rows. */
  rows(lsn: Lsn): void {
    this.table = null
    if (this.found.length === 0) return
    for (const { oid, table } of this.found.splice(0)) this.listener?.carried(table, oid, lsn)
  }

  /** It was described for what names all of it itself. */
  other(): void {
    this.table = null
    this.found.length = 0
  }
}
