import { parseLsn, type Lsn } from '@moonlink/core'
import type { Client } from 'pg'

const slot = `'history_' || current_database()`

/** From here on the server keeps which transactions commit in these tables, and where. */
export async function beginCommitOrder(client: Client, tables: readonly string[]): Promise<void> {
  await client.query(`CREATE PUBLICATION history FOR TABLE ${tables.join(', ')}`)
  await client.query(`SELECT pg_create_logical_replication_slot(${slot}, 'pgoutput')`)
}

/** The end LSN of each transaction since then, in the order of their commits. May be asked once. */
export async function commitOrder(client: Client): Promise<Map<number, Lsn>> {
  const { rows } = await client.query<{ xid: string; lsn: string }>(
    `SELECT xid::text, lsn::text FROM pg_logical_slot_get_binary_changes(${slot}, NULL, NULL, 'proto_version', '1', 'publication_names', 'history')
     WHERE get_byte(data, 0) = ascii('C')`,
  )
  await client.query(`SELECT pg_drop_replication_slot(${slot})`)
  return new Map(rows.map(({ xid, lsn }) => [Number(xid), parseLsn(lsn)]))
}
