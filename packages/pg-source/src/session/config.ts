import { MoonlinkError } from '@moonlink/core'
import { z } from 'zod'
import { tableName, typePolicy } from '../types/index.ts'
import { connectionParts, type ConnectionParts } from './connection-config.ts'

/** Everything that `openPgSource` can be told. Times in ms, sizes in bytes. */
export interface PgSourceConfig {
  /** postgres://…, libpq keywords, or their parts. */
  readonly connection: string | ConnectionParts
  /** Publication to use, as it is; made if it is not there. Append-only tables have their own, <name>_append. Default: `moonlink_pub`. */
  readonly publication?: string | undefined
  /** Logical replication slot to use; made if it is not there. Temporary slots for copies are named after it. Default: `moonlink_slot`. */
  readonly slot?: string | undefined
  /** Drop a slot of ours that the server has invalidated, and make a new one; otherwise refuse it. Default: `false`. */
  readonly replaceLostSlot?: boolean | undefined
  /** Make the slot one that standbys keep too, so that it outlives a failover. Postgres 17 and later. Default: `false`. */
  readonly failover?: boolean | undefined
  /** Let Postgres send large transactions while they are in progress. They are spooled here until they commit. Default: `true`. */
  readonly streaming?: boolean | undefined
  /** Memory for transactions in progress; beyond it they go to spoolDirectory. Default: 32 MiB. */
  readonly spoolMemoryBytes?: number | undefined
  /** Directory of our own for transactions in progress. Without one, all stay in memory. */
  readonly spoolDirectory?: string | undefined
  /** Let Postgres send prepared transactions when they are prepared, not when they commit. Postgres 15 and later. Default: `false`. */
  readonly twoPhase?: boolean | undefined
  /** none: leave out changes that the source itself got by logical replication. Postgres 16 and later. Default: `any`. */
  readonly origin?: 'any' | 'none' | undefined
  /** Columns to leave out, per table. Default: none. */
  readonly excludeColumns?: Readonly<Record<string, readonly string[]>> | undefined
  /** Tables of which only inserts and truncates are published. Default: none. */
  readonly appendOnly?: readonly string[] | undefined
  /** How types are mirrored, by the names that Postgres has for them. Default: none. */
  readonly types?: z.input<typeof typePolicy.types> | undefined
  /** How single columns are mirrored, per table. Default: none. */
  readonly columns?: z.input<typeof typePolicy.columns> | undefined
  /** What becomes of values that the mirrored type cannot hold, where no rule of the type or the column says it. Default: `error`. */
  readonly onUnfit?: z.input<typeof typePolicy.onUnfit> | undefined
  /** Connections that copy tables side by side. Default: `2`. */
  readonly copyWorkers?: number | undefined
  /** Size of the part of a table that one COPY takes. Default: 64 MiB. */
  readonly copyRangeBytes?: number | undefined
  /** Bytes that all connections of a copy read a second, at most; 0: as many as they can. Default: `0`. */
  readonly copyBytesPerSecond?: number | undefined
  /** How long a copy waits for its ACCESS SHARE locks, before it gives up and is tried again; 0: for ever. Default: `30000`. */
  readonly copyLockTimeoutMs?: number | undefined
  /** A copy that may go on in another snapshot does so after this time, so that vacuum is not held back for longer; 0: never. Default: `0`. */
  readonly copySnapshotMaxMs?: number | undefined
  /** Rows of a copied batch: a row group of a data file, as a rule. Default: `122880`. */
  readonly copyBatchRows?: number | undefined
  /** Bytes of a copied batch. Each of the copyWorkers has two for each table it reads. Default: 32 MiB. */
  readonly copyBatchBytes?: number | undefined
  /** Bytes of the stream held back while nobody takes events. Default: 8 MiB. */
  readonly batchBytes?: number | undefined
  /** Longest time until Postgres learns how far we are. Default: `500`. */
  readonly statusIntervalMs?: number | undefined
  /** How long a connection may take to be there. Default: `10000`. */
  readonly connectTimeoutMs?: number | undefined
  /** For statements on the catalog; never for streams and copies. 0: none. Default: `60000`. */
  readonly statementTimeoutMs?: number | undefined
  /** Whoever still uses the slot at the start is a stale mirror that we took over from: end its connection. Default: `false`. */
  readonly evictsStale?: boolean | undefined
  /** The server ends a stream that it hears nothing of for so long, where its own wal_sender_timeout is longer or none; 0: that one holds. Default: `0`. */
  readonly senderTimeoutMs?: number | undefined
  /** How long to wait for a slot that another connection still uses. Default: `5000`. */
  readonly slotWaitMs?: number | undefined
}

/** What checks a `PgSourceConfig`, and fills in the defaults. */
export const pgSourceConfig = z.strictObject({
  connection: z.union([z.string(), connectionParts]),
  publication: z.string().min(1).max(55).default('moonlink_pub'),
  slot: z
    .string()
    .regex(/^[a-z0-9_]{1,40}$/, 'must be 1 to 40 of a-z, 0-9 and _')
    .default('moonlink_slot'),
  replaceLostSlot: z.boolean().default(false),
  failover: z.boolean().default(false),
  streaming: z.boolean().default(true),
  spoolMemoryBytes: z
    .int()
    .min(1)
    .default(32 * 2 ** 20),
  spoolDirectory: z.string().optional(),
  twoPhase: z.boolean().default(false),
  origin: z.enum(['any', 'none']).default('any'),
  excludeColumns: z.record(tableName, z.array(z.string())).default({}),
  appendOnly: z.array(tableName).default([]),
  types: typePolicy.types.default({}),
  columns: typePolicy.columns.default({}),
  onUnfit: typePolicy.onUnfit.default('error'),
  copyWorkers: z.int().min(1).max(32).default(2),
  copyRangeBytes: z
    .int()
    .min(8192)
    .default(64 * 2 ** 20),
  copyBytesPerSecond: z.int().min(0).default(0),
  copyLockTimeoutMs: z.int().min(0).default(30_000),
  copySnapshotMaxMs: z.int().min(0).default(0),
  copyBatchRows: z.int().min(1).default(122_880),
  copyBatchBytes: z
    .int()
    .min(1024)
    .default(32 * 2 ** 20),
  batchBytes: z
    .int()
    .min(1024)
    .default(8 * 2 ** 20),
  statusIntervalMs: z.int().min(10).default(500),
  connectTimeoutMs: z.int().min(1).default(10_000),
  statementTimeoutMs: z.int().min(0).default(60_000),
  evictsStale: z.boolean().default(false),
  senderTimeoutMs: z.int().min(0).default(0),
  slotWaitMs: z.int().min(0).default(5000),
}) satisfies z.ZodType<unknown, PgSourceConfig>
/** `PgSourceConfig` with its defaults. */
export type PgSourceSettings = z.output<typeof pgSourceConfig>

/** Checks a configuration and fills in the defaults. Throws `invalid`/`PG_CONFIG`, naming the key. */
export function parseConfig(config: PgSourceConfig): PgSourceSettings {
  const parsed = pgSourceConfig.safeParse(config)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new MoonlinkError('invalid', 'PG_CONFIG', `source configuration: ${issue.path.join('.') || 'value'}: ${issue.message}.`)
}
