import { parseLsn, type Lsn } from '@moonlink/core'
import pg from 'pg'

/** pg's protocol object: it hands out each CopyData payload, which its typings leave out. */
interface ReplicationConnection extends NodeJS.EventEmitter {
  sendCopyFromChunk(chunk: Buffer): void
  query(text: string): void
}

/** Reads the slot from its start until a transaction at or past `untilLsn` has ended, and drops the bytes. Returns seconds. */
export async function drainSlot(connectionString: string, slot: string, publication: string, untilLsn: Lsn): Promise<number> {
  const client = new pg.Client({ connectionString, replication: 'database' } as pg.ClientConfig)
  await client.connect()
  const connection = (client as unknown as { connection: ReplicationConnection }).connection
  // The client takes such messages without a query of its own for an error.
  for (const event of ['copyData', 'copyDone', 'commandComplete', 'readyForQuery']) connection.removeAllListeners(event)
  const started = performance.now()
  await new Promise<void>((resolve, reject) => {
    client.on('error', reject)
    connection.on('errorMessage', (message: Error) => reject(message))
    connection.on('copyData', ({ chunk }: { chunk: Buffer }) => {
      if (chunk[0] === 0x6b) {
        if (chunk.readBigUInt64BE(1) >= untilLsn) resolve()
        return
      }
      // 'w', 24 bytes of header, then 'C' with flags, commit LSN, end LSN.
      if (chunk[25] === 0x43 && chunk.readBigUInt64BE(35) >= untilLsn) resolve()
    })
    connection.query(
      `START_REPLICATION SLOT "${slot}" LOGICAL 0/0 (proto_version '1', publication_names '"${publication}"', binary 'true')`,
    )
  })
  const seconds = (performance.now() - started) / 1000
  hangUp(client)
  return seconds
}

/** `COPY table TO STDOUT (FORMAT binary)` in one stream, bytes dropped. Returns seconds. */
export async function copyToNowhere(connectionString: string, table: string): Promise<number> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  const connection = (client as unknown as { connection: ReplicationConnection }).connection
  // The client takes such messages without a query of its own for an error.
  for (const event of ['copyData', 'copyDone', 'commandComplete', 'readyForQuery']) connection.removeAllListeners(event)
  const started = performance.now()
  await new Promise<void>((resolve, reject) => {
    client.on('error', reject)
    connection.on('errorMessage', (message: Error) => reject(message))
    connection.on('copyDone', () => resolve())
    connection.query(`COPY ${table} TO STDOUT (FORMAT binary)`)
  })
  const seconds = (performance.now() - started) / 1000
  hangUp(client)
  return seconds
}

/** Ends a connection whose protocol state the client no longer follows. */
function hangUp(client: pg.Client): void {
  ;(client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy()
}

export async function currentLsn(client: pg.Client): Promise<Lsn> {
  const { rows } = await client.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn')
  return parseLsn(rows[0].lsn)
}
