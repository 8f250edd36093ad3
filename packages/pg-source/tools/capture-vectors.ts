import { writeFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { parseLsn } from '@moonlink/core'
import { startPostgres } from '@moonlink/embedded-pg'
import pg from 'pg'
import { StreamDecoder } from '../src/decode/index.ts'
import { kindsOf, reading, vectorPath, vectorTable } from '../src/decode/vectors.test.support.ts'
import { Replica, sorted } from '../src/session/replica.test.support.ts'
import { sourceState } from '../src/session/harness.test.support.ts'

/**
 * Records what a server sends of a session that has every kind of message, as test vectors: the payloads, and what they say, which has to be what the
 * server's tables hold in the end. `MOONLINK_TEST_PG_BIN="$(.ci/postgres 14)" pnpm exec node packages/pg-source/tools/capture-vectors.ts`.
 */

const binDir = process.env['MOONLINK_TEST_PG_BIN']
const settings = { logical_decoding_work_mem: '64kB', max_prepared_transactions: '10', autovacuum: 'off' }
const server = await startPostgres({ settings, ...(binDir ? { binDir } : {}) })
const major = Number.parseInt(server.version, 10)
const connect = async (more: object = {}) => {
  const client = new pg.Client({ connectionString: server.connectionString, ...more })
  await client.connect()
  return client
}
const one = await connect()
const other = await connect()
const large = (from: number) => `INSERT INTO keyed SELECT n, repeat('x', 1000), n, NULL FROM generate_series(${from}, ${from + 89}) n`

await one.query(`CREATE TYPE mood AS ENUM ('sad', 'happy');
  CREATE TABLE keyed (id int PRIMARY KEY, note text, amount numeric(10, 2), tags text[]); ALTER TABLE keyed ALTER note SET STORAGE EXTERNAL;
  CREATE TABLE whole (a int, b text); ALTER TABLE whole REPLICA IDENTITY FULL;
  CREATE TABLE indexed (id int, code text NOT NULL UNIQUE, v text); ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_code_key;
  CREATE TABLE moods (id int PRIMARY KEY, feel mood);
  CREATE PUBLICATION vectors FOR ALL TABLES; SELECT pg_replication_origin_create('elsewhere')`)
await one.query(`SELECT pg_create_logical_replication_slot('vectors', 'pgoutput', false, true)`)

const frames: Buffer[] = []
let replica = new Replica()
let decoder = newDecoder()
function newDecoder(): StreamDecoder {
  return new StreamDecoder({ resolve: vectorTable, openTransactionBytes: 0 })
}
const stream = await connect({ replication: 'database' })
// The server's end ends it.
stream.on('error', () => {})
const connection = (stream as unknown as { connection: NodeJS.EventEmitter }).connection
connection.on('copyData', ({ chunk }: { chunk: Buffer }) => {
  const frame = Buffer.from(chunk)
  const last = frames.at(-1)
  if (frame[0] === 0x6b && last?.[0] === 0x6b) frames.pop()
  frames.push(frame)
  decoder.feed(frame)
})
const options = [
  `proto_version '${major >= 16 ? 4 : major === 15 ? 3 : 2}'`,
  `publication_names 'vectors'`,
  `binary 'true'`,
  `messages 'true'`,
  `streaming '${major >= 16 ? 'parallel' : 'on'}'`,
  ...(major >= 15 ? [`two_phase 'on'`] : []),
]
stream.query(`START_REPLICATION SLOT vectors LOGICAL 0/0 (${options.join(', ')})`).catch(() => {})

/** Waits until all that is committed by now has come; what is in progress has then been sent as far as it is to be. */
async function arrived(): Promise<void> {
  await other.query(`SELECT pg_logical_emit_message(true, 'vectors', 'x')`)
  const { rows } = await other.query<{ lsn: string }>('SELECT pg_current_wal_flush_lsn() AS lsn')
  const lsn = parseLsn(rows[0].lsn)
  while (replica.watermarkLsn < lsn) {
    for (const event of decoder.take()) replica.apply(event)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

async function play(...statements: string[]): Promise<void> {
  for (const sql of statements) {
    await one.query(sql)
    await arrived()
  }
}

await play(
  `INSERT INTO keyed VALUES (1, 'one', 1.5, '{a,NULL,"b c"}'), (2, repeat('t', 3000), NULL, '{}'), (3, NULL, -0.01, NULL)`,
  `UPDATE keyed SET amount = 2 WHERE id = 1; UPDATE keyed SET amount = 3 WHERE id = 2; UPDATE keyed SET id = 20 WHERE id = 2; DELETE FROM keyed WHERE id = 3`,
  `INSERT INTO whole VALUES (1, 'x'), (1, 'x'), (NULL, NULL), (2, repeat('y', 3000)); UPDATE whole SET a = 5 WHERE b = 'x'; DELETE FROM whole WHERE a IS NULL; UPDATE whole SET a = 6 WHERE a = 2`,
  `INSERT INTO indexed VALUES (1, 'a', 'v'), (2, 'b', 'w'); UPDATE indexed SET code = 'c' WHERE code = 'a'; UPDATE indexed SET v = 'q'; DELETE FROM indexed WHERE code = 'b'`,
  `INSERT INTO moods VALUES (1, 'sad')`,
  `SELECT pg_logical_emit_message(false, 'aside', 'not of a transaction')`,
  `SELECT pg_replication_origin_session_setup('elsewhere'); BEGIN; SELECT pg_replication_origin_xact_setup('0/AA', now()); INSERT INTO keyed VALUES (4, 'from elsewhere'); COMMIT`,
  `SELECT pg_replication_origin_session_reset()`,
  `BEGIN; TRUNCATE whole, moods RESTART IDENTITY CASCADE; INSERT INTO whole VALUES (9, 'after'); COMMIT`,
  // In progress while others commit; a part of it rolled back.
  'BEGIN',
  large(1000),
  `INSERT INTO whole VALUES (10, 'in progress')`,
  'SAVEPOINT s',
  large(2000),
  'ROLLBACK TO s',
  `UPDATE keyed SET note = 'short', tags = '{z}' WHERE id < 1050 AND id >= 1000; DELETE FROM keyed WHERE id BETWEEN 1060 AND 1069`,
  'TRUNCATE indexed',
  'COMMIT',
  'BEGIN',
  large(3000),
  'ROLLBACK',
  `DELETE FROM keyed WHERE id >= 1010 AND id < 2000`,
)
await play(
  'BEGIN',
  `INSERT INTO keyed VALUES (5, 'prepared', 1, NULL)`,
  `PREPARE TRANSACTION 'first'`,
  `INSERT INTO whole VALUES (11, 'meanwhile')`,
  `COMMIT PREPARED 'first'`,
  'BEGIN',
  `INSERT INTO keyed VALUES (6, 'never')`,
  `PREPARE TRANSACTION 'second'`,
  `ROLLBACK PREPARED 'second'`,
  'BEGIN',
  large(4000),
  `PREPARE TRANSACTION 'third'`,
  `COMMIT PREPARED 'third'`,
  `DELETE FROM keyed WHERE id >= 4003`,
)

const recorded = [...frames]

// What was recorded is decoded as the test does it, and has to be what the tables hold.
replica = new Replica()
decoder = newDecoder()
const readings: unknown[] = []
const take = () => {
  for (const event of decoder.take()) {
    replica.apply(event)
    readings.push(reading(event))
  }
}
for (const frame of recorded) {
  decoder.feed(frame)
  take()
}
while (decoder.isReplaying) take()
const held = { keyed: '(SELECT id, note, (amount * 100)::int AS amount FROM keyed)', whole: 'whole', indexed: 'indexed' }
for (const [name, query] of Object.entries(held)) {
  // Arrays have another text here.
  const rows = replica
    .rowsOf(`public.${name}`)
    .map((row) => Object.fromEntries(Object.entries(row).filter(([column]) => column !== 'tags')))
  if (sorted(rows).join('\n') !== (await sourceState(one, query)).join('\n')) throw new Error(`${name} is not what the server has`)
}
if (replica.missing.length > 0) throw new Error(replica.missing.join('\n'))
writeFileSync(vectorPath(major, 'gz'), packFrames(recorded))
writeFileSync(vectorPath(major, 'jsonl'), `${readings.map((line) => JSON.stringify(line)).join('\n')}\n`)
console.log(`Postgres ${server.version}: ${recorded.length} frames of kinds ${kindsOf(recorded).join(' ')}`)
await one.end()
await other.end()
await server.stop()
process.exit(0)

/** Payloads as one file: each behind its length. */
function packFrames(frames: readonly Uint8Array[]): Buffer {
  const parts = frames.flatMap((frame) => {
    const size = Buffer.alloc(4)
    size.writeUInt32BE(frame.length)
    return [size, frame]
  })
  return gzipSync(Buffer.concat(parts), { level: 9 })
}
