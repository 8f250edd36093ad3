import { tableName, typePolicy } from '@moonlink/pg-source'
import { z } from 'zod'
import { boolean, bytes, count, durationMs, fraction, tableNames, truth } from './setting-kinds.ts'

const KIB = 1024
const MIB = 1024 * KIB
const DAY_MS = 86_400_000

const name = z.string().regex(/^[a-z0-9_]{1,40}$/, 'must be 1 to 40 of a-z, 0-9 and _')

const source = z
  .strictObject({
    url: z
      .string()
      .regex(/^postgres(ql)?:\/\//, 'must be a URL such as postgres://user:password@host:5432/database')
      .optional()
      .describe('Connection URL of the Postgres to mirror. Without one, an embedded Postgres with a demo shop is started.'),
    publication: name.prefault('moonlink').describe('Publication to use, as it is; made if it is not there (docs/PUBLICATIONS.md).'),
    slot: name
      .optional()
      .describe(
        'Logical replication slot to use; made if it is not there, and made anew where it is lost (source.onSlotLoss). Default: moonlink_ and the database, and a hash of its name where that has more than a-z, 0-9 and _.',
      ),
    tables: tableNames(
      'Tables to mirror, as schema.name; a schema with a dot in double quotes: "a.b".name. Empty: every table of the database that can be mirrored.',
    ),
    excludeColumns: z
      .record(tableName, z.array(z.string()))
      .prefault({})
      .describe('Columns to leave out, per table: {public.orders: [span]}.'),
    appendOnly: tableNames('Tables of which only inserts are mirrored; they need no key.'),
    onSchemaChange: z
      .enum(['resync', 'pause'])
      .prefault('resync')
      .describe(
        'When a table changed in a way that the stream does not tell all of: take it on as it is now, comparing it with the source (the old data stays readable), or pause it until moonlink tables resync.',
      ),
    onSlotLoss: z
      .enum(['resync', 'stop'])
      .prefault('resync')
      .describe(
        'When the slot is gone or the server has invalidated it: make a new one and make the tables equal to the source again (the old data stays readable), or stop.',
      ),
    streaming: truth(
      true,
      'Whether Postgres sends large transactions while they are in progress. They are spooled here and become visible when they commit; otherwise Postgres spools them.',
    ),
    spoolBytes: bytes('32MiB', 'Memory for transactions in progress, beside memory.limitBytes; beyond it they go to files in stateDir.', {
      least: 64 * KIB,
    }),
    twoPhase: truth(
      false,
      'Whether Postgres sends prepared transactions when they are prepared rather than when they commit. The slot then keeps what follows a prepared transaction until that has ended. Postgres 15 and later; a slot that was asked for this once does so for ever. With source.failover, before Postgres 18: see the slot in OPERATIONS.',
    ),
    origin: z
      .enum(['any', 'none'])
      .prefault('any')
      .describe('none: leave out what the source itself got by logical replication, as in a ring of servers. Postgres 16 and later.'),
    failover: truth(false, 'Whether the slot is one that standbys keep too, so that it outlives a failover. Postgres 17 and later.'),
    slotCheckMs: durationMs('5s', 'Time between two looks at the slot: its lag, its headroom, whether it is still there.', { least: 100 }),
    heartbeatMs: durationMs(
      '1m',
      'A database that was quiet for so long gets a message of a few bytes written to its log, so that the slot moves on while others write; 0: never.',
      { least: 100, orZero: true },
    ),
    types: typePolicy.types
      .prefault({})
      .describe(
        'How types are mirrored, wherever they occur: {time: time, numeric: {as: "decimal(38,10)", onUnfit: text}}. See docs/TYPES.md.',
      ),
    columns: typePolicy.columns
      .prefault({})
      .describe(
        'How single columns are mirrored, over what their types say: {public.orders: {total: {as: "decimal(38,4)"}}}. See docs/TYPES.md.',
      ),
    onUnfit: typePolicy.onUnfit
      .prefault('error')
      .describe(
        'What becomes of a value that the Iceberg type cannot hold: error pauses the table, null leaves it out and counts it, text keeps its text in a second column.',
      ),
  })
  .prefault({})
  .describe('What is mirrored.')

const catalog = z
  .strictObject({
    kind: z
      .enum(['file', 'rest'])
      .prefault('file')
      .describe("file: metadata lives in the warehouse directory, as Spark's hadoop catalog has it. rest: an Iceberg REST catalog."),
    uri: z.url().optional().describe('Base URI of the REST catalog.'),
    warehouse: z.string().optional().describe('Warehouse name the REST catalog asks for.'),
    token: z.string().optional().describe('Bearer token for the REST catalog.'),
    headers: z.record(z.string(), z.string()).prefault({}).describe('Headers sent with every request to the REST catalog.'),
    timeoutMs: durationMs('30s', 'How long one request to the REST catalog may take, its answer included.', { least: 100, most: DAY_MS }),
    onLost: z
      .enum(['stop', 'copy'])
      .prefault('stop')
      .describe(
        'When a start finds none of the tables that were mirrored, as where the disk of a local warehouse is not mounted: stop, or copy all of them anew.',
      ),
  })
  .refine((value) => value.kind === 'file' || value.uri !== undefined, { path: ['uri'], message: 'is needed where catalog.kind is rest' })
  .prefault({})
  .describe('Where the current metadata of each table is kept.')

const s3 = z
  .strictObject({
    region: z.string().optional().describe('Region; AWS_REGION otherwise.'),
    endpoint: z.url().optional().describe('Endpoint of an S3-compatible server; AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL otherwise.'),
    forcePathStyle: boolean
      .optional()
      .describe(
        'Address buckets by path rather than by host name, as most S3-compatible servers need. Default: true where there is an endpoint.',
      ),
    accessKeyId: z
      .string()
      .optional()
      .describe(
        'Access key; otherwise as the AWS SDK finds credentials (environment, profile, SSO, web identity, the role of a container or machine), within 10 s.',
      ),
    secretAccessKey: z.string().optional().describe('Secret of the access key.'),
    sessionToken: z.string().optional().describe('Session token of temporary credentials.'),
    timeoutMs: durationMs(
      '30s',
      'How long a connection to S3 may stay silent, or move less than 4 KiB/s, before its request is sent again.',
      {
        least: 100,
        most: DAY_MS,
      },
    ),
  })
  .refine((value) => (value.accessKeyId === undefined) === (value.secretAccessKey === undefined), {
    path: ['secretAccessKey'],
    message: 'and s3.accessKeyId are needed together',
  })
  .prefault({})
  .describe('S3, for a warehouse that starts with s3://.')

const http = z
  .strictObject({
    listen: z
      .string()
      .regex(/^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/, { error: 'must be host:port, such as 127.0.0.1:3030', abort: true })
      .refine((address) => Number(address.slice(address.lastIndexOf(':') + 1)) <= 65_535, 'must have a port of 65535 at most')
      .prefault('127.0.0.1:3030')
      .describe('Address of the HTTP API; port 0 takes a free one. An address other than loopback needs http.token.'),
    token: z.string().min(8, 'must have at least 8 characters').optional().describe('Bearer token that every request must carry.'),
  })
  .prefault({})
  .describe('The HTTP API.')

const flush = z
  .strictObject({
    rows: count(500_000, 'Rows in memory of one table at which it is flushed: one Iceberg commit.'),
    bytes: bytes('128MiB', 'Bytes of rows in memory of one table at which it is flushed.', { least: 64 * KIB }),
    deletes: count(500_000, 'Deletes of rows in files, not committed yet, at which a table is flushed.'),
    intervalMs: durationMs('5s', 'Longest time a changed table waits for its next flush and commit. An unchanged table commits nothing.', {
      least: 100,
    }),
    deniedMs: durationMs(
      '10m',
      'A table whose commits or first copy alone are refused so long, as for a missing permission, is paused until they are not any more; sooner where memory is short or the change log nears its bound.',
    ),
  })
  .prefault({})
  .describe('When rows in memory become an Iceberg commit: at the first threshold that is reached.')

const memory = z
  .strictObject({
    limitBytes: bytes(
      '1GiB',
      'Memory for rows, deletes and indexes of all tables. Near it the cold part of the indexes goes to disk and the source is slowed. What a process takes beside it: docs/OPERATIONS.md.',
      { least: 16 * MIB },
    ),
  })
  .prefault({})
  .describe('Memory.')

const sql = z
  .strictObject({
    memoryBytes: bytes('512MiB', 'Memory for queries, beside memory.limitBytes; beyond it they spill to stateDir.', { least: 32 * MIB }),
    spillBytes: bytes(
      '16GiB',
      'Disk space in stateDir that queries spill to, all together: large sorts and joins, and what a query needs of files that exceed cache.limitBytes.',
      { least: MIB },
    ),
    threads: count(2, 'Threads of one query.', 1, 1024),
    maxQueries: count(16, 'Queries at once; further ones wait.', 1, 10_000),
  })
  .prefault({})
  .describe('The SQL engine.')

const compaction = z
  .strictObject({
    enabled: truth(true, 'Whether small and much deleted files are folded into new ones.'),
    minFiles: count(8, 'Small files of one table at which they are folded.', 2),
    smallFileBytes: bytes('32MiB', 'A data file below this size counts as small; one of 1/32 of memory.limitBytes does not.'),
    maxDeadRatio: fraction(0.5, 'Share of deleted rows at which a file is rewritten even when alone.'),
    maxBytes: bytes('256MiB', 'At most this much is rewritten at once; never more than 1/8 of memory.limitBytes.', { least: MIB }),
  })
  .prefault({})
  .describe('Compaction.')

const expiry = z
  .strictObject({
    minSnapshots: count(5, 'Snapshots of each table kept in any case.'),
    maxAgeMs: durationMs('1h', 'Age up to which replaced snapshots and their files are kept; readers elsewhere have that long to finish.'),
    intervalMs: durationMs('1m', 'Time between two looks for what to remove.', { least: 100 }),
  })
  .prefault({})
  .describe('When replaced snapshots and files are removed.')

const changeLog = z
  .strictObject({
    enabled: truth(
      true,
      'Whether what the source sends is logged, so that the slot lets go of it within a second. Without the log, the slot keeps it until it is in Iceberg.',
    ),
    kind: z
      .enum(['local', 'store'])
      .prefault('local')
      .describe('local: files in changeLog.location on this machine. store: objects, one for each sync.'),
    location: z
      .string()
      .min(1)
      .optional()
      .describe(
        'A directory, or for store a URI. One backend each. Default: the directory changelog in stateDir; for store .moonlink/changelog in the warehouse.',
      ),
    syncIntervalMs: durationMs('200ms', 'Longest time from the arrival of a change until it is safe in the log. For store at least 1s.', {
      least: 1,
    }),
    syncBytes: bytes('8MiB', 'Bytes that arrived since the last sync at which the next does not wait.', { least: KIB }),
    segmentBytes: bytes(
      '64MiB',
      'Size of a segment, at most 1/8 of maxBytes; what Iceberg has is removed from the log by whole segments.',
      { least: 16 * KIB },
    ),
    maxBytes: bytes(
      '4GiB',
      'At half of this, tables are committed early; at all of it the log stops, and the slot keeps what comes until Iceberg has caught up.',
      { least: 128 * KIB },
    ),
    minFreeBytes: bytes(
      '256MiB',
      'Of the disk with a local log, what the log leaves free for the commits that let it shrink, a quarter of the disk at most; with less it stops as at maxBytes. 0: it takes all.',
      { orZero: true },
    ),
  })
  .prefault({})
  .describe('The durable log of what the source sends.')

const standby = z
  .strictObject({
    enabled: truth(
      false,
      'Where another backend runs this mirror: wait, and take over when it ends, rather than stop. Needs changeLog.kind: store. The flag --standby of start.',
    ),
    renewIntervalMs: durationMs(
      '1s',
      'Time between two signs of life of the backend that runs the mirror, each an object put; a standby looks as often.',
      { least: 100, most: DAY_MS },
    ),
    takeoverMs: durationMs(
      '6s',
      'A backend that gave no sign of life for so long is taken over from. At least three times renewIntervalMs.',
      { least: 300, most: DAY_MS },
    ),
  })
  .prefault({})
  .describe('Backends that take over from one another, with a change log in the object store.')

const verify = z
  .strictObject({
    share: fraction(
      0,
      'Share of the time spent comparing tables with the source, row for row, one after the other for ever; 0: only on request. Each comparison reads the table on both sides.',
    ),
    minPauseMs: durationMs('10s', 'Shortest pause between two of these comparisons.'),
  })
  .prefault({})
  .describe('Continuous verification.')

const copy = z
  .strictObject({
    parallelTables: count(2, 'Tables copied at the same time while they are first read.', 1, 1000),
    connections: count(2, 'Connections to the source that read them.', 1, 32),
    rangeBytes: bytes(
      '64MiB',
      'Part of a table, values in TOAST included, that is read as a whole: about what a copy that is cut off reads again, for each connection.',
      { least: 8 * KIB },
    ),
    maxBytesPerSecond: bytes('0', 'What these connections together read a second at most, to spare the source; 0: no limit.', {
      least: 64 * KIB,
      orZero: true,
    }),
    lockTimeoutMs: durationMs(
      '30s',
      'How long a copy, or a verification, waits for its ACCESS SHARE lock, which only ALTER TABLE, VACUUM FULL and the like hold up, before it is tried again.',
      { least: 1, most: DAY_MS },
    ),
    maxSnapshotMs: durationMs(
      '0',
      'After this time a copy goes on in a new snapshot, so that it does not keep vacuum from removing dead rows for longer; 0: never. Tables without a key are always read in one.',
      { least: 1000, orZero: true },
    ),
    onFullSpool: z
      .enum(['restart', 'pause', 'wait'])
      .default('restart')
      .describe(
        'What becomes of a table whose changes wait for its copy where the local disk is full and memory is short: its copy is given up and begun again once in a while, or when asked for; or the source waits, for all tables, until there is room.',
      ),
  })
  .prefault({})
  .describe('The initial copy.')

const cache = z
  .strictObject({
    limitBytes: bytes(
      '4GiB',
      'Disk space for local copies of data files that live in S3; and as much again for copies of files with variants, which SQL reads. A query over more reads a part after the other.',
      { least: MIB },
    ),
  })
  .prefault({})
  .describe('The local file cache, in stateDir; used with S3, and for variants.')

const parquet = z
  .strictObject({
    workers: count(1, 'Worker threads that encode Parquet.', 1, 256),
  })
  .prefault({})
  .describe('Writing data files.')

const telemetry = z
  .strictObject({
    otlpEndpoint: z
      .url()
      .optional()
      .describe(
        'Base URL of an OpenTelemetry collector (OTLP over HTTP) that traces are sent to; OTEL_EXPORTER_OTLP_ENDPOINT otherwise. Without one none are made.',
      ),
  })
  .prefault({})
  .describe('Traces. Metrics are always at /metrics of the HTTP API, for Prometheus.')

const log = z
  .strictObject({
    level: z.enum(['debug', 'info', 'warn', 'error', 'silent']).prefault('info').describe('Least level that is logged.'),
    to: z
      .enum(['file', 'stderr'])
      .prefault('file')
      .describe('file: JSON lines in stateDir/moonlink.log, and warnings as plain lines on stderr. stderr: JSON lines there.'),
  })
  .prefault({})
  .describe('Logging.')

/** The whole configuration. Every threshold has its unit in its name, a default and a meaning. */
export const configSchema = z.strictObject({
  source,
  warehouse: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Where the Iceberg tables live: a directory or s3://bucket/prefix. Default: what a REST catalog chooses, else the directory warehouse in stateDir.',
    ),
  catalog,
  s3,
  stateDir: z
    .string()
    .min(1)
    .prefault('.moonlink')
    .describe('Directory for the lock, the indexes, the cache and, without a source, the embedded Postgres. One backend each.'),
  http,
  flush,
  memory,
  sql,
  compaction,
  expiry,
  changeLog,
  standby,
  verify,
  copy,
  cache,
  parquet,
  telemetry,
  log,
})

export type ParsedConfig = z.output<typeof configSchema>

/** A configuration that is complete and checked. */
export type Config = Omit<ParsedConfig, 'warehouse' | 'changeLog'> & {
  /** `location` is a path, or for `store` a URI without a trailing slash. */
  readonly changeLog: Omit<ParsedConfig['changeLog'], 'location'> & { readonly location: string }
  /** A `file://` or `s3://` URI without a trailing slash; null where a REST catalog chooses. */
  readonly warehouse: string | null
}
