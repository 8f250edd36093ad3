import { MoonlinkError } from '@moonlink/core'
import { z } from 'zod'
import { typePolicy } from '../types/index.ts'
import { connectionParts } from './connection-config.ts'

const tableName = z.string().regex(/^[^.]+\..+$/, 'must be schema.name, such as public.orders')

/** Everything that `openPgSource` can be told. Times in ms, sizes in bytes. */
export const pgSourceConfig = z.strictObject({
  connection: z.union([z.string(), connectionParts]).describe('postgres://…, libpq keywords, or their parts.'),
  publication: z
    .string()
    .min(1)
    .max(55)
    .default('moonlink_pub')
    .describe('Publication to use, as it is; made if it is not there. Append-only tables have their own, <name>_append.'),
  slot: z
    .string()
    .regex(/^[a-z0-9_]{1,40}$/, 'must be 1 to 40 of a-z, 0-9 and _')
    .default('moonlink_slot')
    .describe('Logical replication slot to use; made if it is not there. Temporary slots for copies are named after it.'),
  replaceLostSlot: z
    .boolean()
    .default(false)
    .describe('Drop a slot of ours that the server has invalidated, and make a new one; otherwise refuse it.'),
  failover: z
    .boolean()
    .default(false)
    .describe('Make the slot one that standbys keep too, so that it outlives a failover. Postgres 17 and later.'),
  streaming: z
    .boolean()
    .default(true)
    .describe('Let Postgres send large transactions while they are in progress. They are spooled here until they commit.'),
  spoolMemoryBytes: z
    .int()
    .min(1)
    .default(32 * 2 ** 20)
    .describe('Memory for transactions in progress; beyond it they go to spoolDirectory.'),
  spoolDirectory: z.string().optional().describe('Directory of our own for transactions in progress. Without one, all stay in memory.'),
  twoPhase: z
    .boolean()
    .default(false)
    .describe('Let Postgres send prepared transactions when they are prepared, not when they commit. Postgres 15 and later.'),
  origin: z
    .enum(['any', 'none'])
    .default('any')
    .describe('none: leave out changes that the source itself got by logical replication. Postgres 16 and later.'),
  excludeColumns: z.record(tableName, z.array(z.string())).default({}).describe('Columns to leave out, per table.'),
  appendOnly: z.array(tableName).default([]).describe('Tables of which only inserts and truncates are published.'),
  types: typePolicy.types.default({}).describe('How types are mirrored, by the names that Postgres has for them.'),
  columns: typePolicy.columns.default({}).describe('How single columns are mirrored, per table.'),
  onUnfit: typePolicy.onUnfit
    .default('error')
    .describe('What becomes of values that the mirrored type cannot hold, where no rule of the type or the column says it.'),
  copyWorkers: z.int().min(1).max(32).default(2).describe('Connections that copy tables side by side.'),
  copyRangeBytes: z
    .int()
    .min(8192)
    .default(64 * 2 ** 20)
    .describe('Size of the part of a table that one COPY takes.'),
  copyBytesPerSecond: z
    .int()
    .min(0)
    .default(0)
    .describe('Bytes that all connections of a copy read a second, at most; 0: as many as they can.'),
  copyLockTimeoutMs: z
    .int()
    .min(0)
    .default(30_000)
    .describe('How long a copy waits for its ACCESS SHARE locks, before it gives up and is tried again; 0: for ever.'),
  copySnapshotMaxMs: z
    .int()
    .min(0)
    .default(0)
    .describe('A copy that may go on in another snapshot does so after this time, so that vacuum is not held back for longer; 0: never.'),
  copyBatchRows: z.int().min(1).default(122_880).describe('Rows of a copied batch: a row group of a data file, as a rule.'),
  copyBatchBytes: z
    .int()
    .min(1024)
    .default(32 * 2 ** 20)
    .describe('Bytes of a copied batch. Each of the copyWorkers has two for each table it reads.'),
  batchBytes: z
    .int()
    .min(1024)
    .default(8 * 2 ** 20)
    .describe('Bytes of the stream held back while nobody takes events.'),
  statusIntervalMs: z.int().min(10).default(500).describe('Longest time until Postgres learns how far we are.'),
  connectTimeoutMs: z.int().min(1).default(10_000),
  statementTimeoutMs: z.int().min(0).default(60_000).describe('For statements on the catalog; never for streams and copies. 0: none.'),
  evictsStale: z
    .boolean()
    .default(false)
    .describe('Whoever still uses the slot at the start is a stale mirror that we took over from: end its connection.'),
  senderTimeoutMs: z
    .int()
    .min(0)
    .default(0)
    .describe(
      'The server ends a stream that it hears nothing of for so long, where its own wal_sender_timeout is longer or none; 0: that one holds.',
    ),
  slotWaitMs: z.int().min(0).default(5000).describe('How long to wait for a slot that another connection still uses.'),
})
/** What `openPgSource` takes; the README has each key with its unit and default. */
export type PgSourceConfig = z.input<typeof pgSourceConfig>
/** `PgSourceConfig` with its defaults. */
export type PgSourceSettings = z.output<typeof pgSourceConfig>

/** Checks a configuration and fills in the defaults. Throws `invalid`/`PG_CONFIG`, naming the key. */
export function parseConfig(config: PgSourceConfig): PgSourceSettings {
  const parsed = pgSourceConfig.safeParse(config)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new MoonlinkError('invalid', 'PG_CONFIG', `source configuration: ${issue.path.join('.') || 'value'}: ${issue.message}.`)
}
