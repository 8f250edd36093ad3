import { parseLsn, type Lsn } from '@moonlink/core'
import pg from 'pg'
import { RawReader, type Pace } from './raw-reader.ts'

const COPY_DATA = 0x64
const COPY_DONE = 0x63

/** Reads the slot from its start until a transaction at or past `untilLsn` has ended, and drops the bytes. Returns seconds. */
export async function drainSlot(
  connectionString: string,
  slot: string,
  publication: string,
  untilLsn: Lsn,
  pace: Pace,
  onReading?: () => Promise<void>,
): Promise<number> {
  const reader = await RawReader.connect(connectionString, pace, true)
  const options = `proto_version '1', publication_names '"${publication}"', binary 'true'`
  const started = performance.now()
  const read = reader.run(`START_REPLICATION SLOT "${slot}" LOGICAL 0/0 (${options})`, (type, bytes, at) => {
    if (type !== COPY_DATA) return false
    // A keepalive: 'k', the server's position. Else 'w' and 24 bytes of header; a Commit is 'C' with flags, commit LSN, end LSN.
    if (bytes[at] === 0x6b) return bytes.readBigUInt64BE(at + 1) >= untilLsn
    return bytes[at + 25] === 0x43 && bytes.readBigUInt64BE(at + 35) >= untilLsn
  })
  await onReading?.()
  await read
  const seconds = (performance.now() - started) / 1000
  reader.close()
  return seconds
}

/** `COPY table TO STDOUT (FORMAT binary)` in one stream, bytes dropped. Returns seconds. */
export async function copyToNowhere(connectionString: string, table: string): Promise<number> {
  const reader = await RawReader.connect(connectionString, 'eager', false)
  const started = performance.now()
  await reader.run(`COPY ${table} TO STDOUT (FORMAT binary)`, (type) => type === COPY_DONE)
  const seconds = (performance.now() - started) / 1000
  reader.close()
  return seconds
}

export async function currentLsn(client: pg.Client): Promise<Lsn> {
  const { rows } = await client.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn')
  return parseLsn(rows[0].lsn)
}
