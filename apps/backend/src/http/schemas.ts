import { tableName as sourceTableName } from '@moonlink/pg-source'
import { z } from 'zod'

const lsn = z
  .string()
  .regex(/^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}$/, 'is not an LSN; write it as Postgres does, for example 0/16B3748')
  .meta({ description: 'A position in the write-ahead log, as Postgres prints it.', examples: ['0/16B3748'] })
const id64 = z.string().regex(/^\d+$/).meta({ description: 'An unsigned 64-bit number as text.' })
const tableName = sourceTableName.meta({ description: 'schema.name; a schema with a dot in double quotes.', examples: ['public.orders'] })
const timeoutMs = z.number().int().min(0).max(86_400_000).default(60_000).meta({ description: 'Longest wait, in ms.' })
const whole = z.number().int().nonnegative()

export const errorSchema = z
  .object({
    error: z.object({
      kind: z.enum(['retry', 'conflict', 'fenced', 'invalid', 'corrupt', 'bug']).meta({ description: 'What the caller should do.' }),
      code: z.string().meta({ description: 'Stable, for programs.', examples: ['TIMED_OUT'] }),
      message: z.string().meta({ description: 'One line that names the thing and the remedy.' }),
      context: z.record(z.string(), z.unknown()),
    }),
  })
  .meta({ id: 'Error' })

const verifiedSchema = z
  .object({
    result: z.enum(['equal', 'different', 'failed']),
    atMs: z.number().meta({ description: 'When it ended, ms since 1970.' }),
    lsn: lsn.nullable().meta({ description: 'Both sides were compared exactly as they were here; null where that failed.' }),
    reason: z.string().nullable().meta({ description: 'Why it failed.' }),
  })
  .meta({ id: 'Verified' })

const unfitSchema = z
  .object({
    column: z.string(),
    action: z
      .enum(['null', 'text'])
      .meta({ description: 'What became of them: null, or null with their text in the column <column>_text.' }),
    values: whole,
  })
  .meta({ id: 'Unfit' })

const copySchema = z
  .object({
    estimatedRows: whole.nullable().meta({ description: 'Rows the source estimates.' }),
    bytes: whole.meta({ description: 'Of the table in the source: what was read.' }),
    totalBytes: whole.meta({ description: 'Of the table in the source: all of it, when the reading began.' }),
    share: z.number().meta({ description: 'From 0 to 1.' }),
    leftMs: whole.nullable().meta({ description: 'Time left at the present pace; null where that can not be told yet.' }),
  })
  .meta({ id: 'CopyProgress' })

export const tableStatusSchema = z
  .object({
    name: tableName,
    state: z.enum(['copying', 'streaming', 'paused', 'failed']),
    reason: z.string().nullable().meta({ description: 'Why it is paused or failed.' }),
    waitingFor: z.string().nullable().meta({
      description:
        "Which transaction of the source its copy, comparison or publication waits for, and what ends that; null where it doesn't.",
    }),
    notes: z.array(z.string()).meta({
      description:
        'What is worth knowing of its mirror: columns left out, partitions that are not told of, and columns that not every reader has.',
    }),
    rows: whole.meta({ description: 'Rows that a read sees now; while copying, rows copied so far.' }),
    appliedLsn: lsn.nullable().meta({ description: 'Reads cover every change up to here.' }),
    durableLsn: lsn.nullable().meta({ description: 'Up to here nothing is lost if this process dies.' }),
    committedLsn: lsn
      .nullable()
      .meta({ description: 'Iceberg covers every change up to here; null before the initial copy is committed.' }),
    lagBytes: whole.meta({ description: 'Write-ahead log between what the source has committed and what is applied.' }),
    lagMs: whole.meta({ description: 'For how long reads have been behind the source; 0 when they are not.' }),
    metadataLocation: z.string().nullable().meta({ description: "URI of the Iceberg table's current metadata.json." }),
    snapshotId: id64.nullable(),
    dataFiles: whole,
    deletionVectors: whole,
    memoryRows: whole,
    memoryBytes: whole,
    spooledBytes: whole.meta({ description: 'Bytes of changes that wait on local disk for the copy.' }),
    lastCommitTimeMs: z.number().nullable().meta({ description: 'Commit time in the source of the newest change applied, ms since 1970.' }),
    copy: copySchema.nullable().meta({ description: 'How far the copy is; null where none runs.' }),
    verified: verifiedSchema
      .nullable()
      .meta({ description: 'The last comparison with the source; null where there was none since the start.' }),
    unfit: z
      .array(unfitSchema)
      .meta({ description: 'Values that the Iceberg type could not hold, since the start; one that is read again counts again.' }),
  })
  .meta({ id: 'TableStatus' })

export const statusSchema = z
  .object({
    source: z.object({
      database: z.string(),
      serverVersion: z.string(),
      slot: z.string(),
      publication: z.string(),
      connected: z.boolean().meta({ description: 'Whether the change stream is open.' }),
      reason: z.string().nullable().meta({ description: 'Why it is not.' }),
      waits: z
        .array(z.string())
        .meta({ description: 'What waits for other transactions of the source: copies, comparisons, locked tables, a slot.' }),
      notes: z.array(z.string()).meta({ description: 'What is worth knowing of the server and how it is mirrored.' }),
      sourceLsn: lsn,
      confirmedFlushLsn: lsn.nullable().meta({ description: 'What the slot has been told it may forget.' }),
      lagBytes: whole.meta({ description: 'Write-ahead log that the slot makes the source keep.' }),
      lagMs: whole.meta({ description: 'Age of the oldest write-ahead log that the slot has not been told to forget.' }),
      freshnessMs: whole.nullable().meta({
        description: "From the newest transaction's commit to when reads showed it, in ms of the clocks of both; null before the first.",
      }),
      slotStatus: z
        .string()
        .nullable()
        .meta({ description: 'reserved, extended, unreserved (about to be lost) or lost; null where it is not known.' }),
      slotHeadroomBytes: whole.nullable().meta({
        description: 'Log that may still be written before the server drops what the slot needs (max_slot_wal_keep_size); null: no limit.',
      }),
    }),
    log: z
      .object({
        startLsn: lsn.nullable().meta({ description: 'The log has every transaction after this; null where it has none.' }),
        endLsn: lsn.nullable().meta({ description: '… and up to here.' }),
        bytes: whole,
        maxBytes: whole.meta({ description: 'At this size it stops, and the slot keeps what comes.' }),
        reason: z.string().nullable().meta({ description: 'Why nothing is logged; null while it is.' }),
      })
      .nullable()
      .meta({ description: 'The change log; null where there is none.' }),
    warehouse: z.string(),
    tables: z.array(tableStatusSchema),
  })
  .meta({ id: 'Status' })

export const healthSchema = z
  .object({
    status: z.literal('ok'),
    role: z.enum(['active', 'standby']).meta({ description: 'standby: another backend runs the mirror; /ready names it.' }),
  })
  .meta({ id: 'Health' })
export const readySchema = z
  .object({ ready: z.boolean(), waitingFor: z.array(z.string()).meta({ description: 'What is not there yet.' }) })
  .meta({ id: 'Ready' })

export const queryRequestSchema = z
  .strictObject({
    sql: z.string().min(1, 'is empty; send one SELECT'),
    atLsn: lsn.nullable().default(null).meta({ description: 'Read as of this LSN; null: everything applied by now.' }),
    timeoutMs,
    format: z
      .enum(['json', 'lines'])
      .default('json')
      .meta({ description: 'json: one document. lines: NDJSON, first {lsn, columns}, then an array a row, last {rowCount} or {error}.' }),
  })
  .meta({ id: 'QueryRequest' })

export const queryResponseSchema = z
  .object({
    lsn: lsn.nullable().meta({ description: 'The LSN that was read; null for a query without tables.' }),
    columns: z.array(z.object({ name: z.string(), type: z.string() })),
    rows: z
      .array(z.array(z.unknown()))
      .meta({ description: 'Integers with all their digits; decimals, times and binary as text, as Postgres prints them.' }),
    rowCount: whole,
    error: errorSchema.shape.error.optional().meta({ description: 'Set where the query failed after its first rows were sent.' }),
  })
  .meta({ id: 'QueryResponse' })

/** What a line of a result is, by its place. */
export const queryLineSchemas = {
  first: queryResponseSchema.pick({ lsn: true, columns: true }),
  row: queryResponseSchema.shape.rows.element,
  last: queryResponseSchema.pick({ rowCount: true }),
}
export const queryLineSchema = z
  .union([queryLineSchemas.first, queryLineSchemas.row, queryLineSchemas.last, errorSchema])
  .meta({ id: 'QueryLine', description: 'The first line, then one a row, and the last; an error takes the place of the last.' })

export const waitRequestSchema = z
  .strictObject({
    lsn: lsn.nullable().default(null).meta({ description: 'What to wait for; null: all that is committed in the source now.' }),
    iceberg: z.boolean().default(false).meta({ description: 'Wait for an Iceberg commit of every table rather than for reads.' }),
    timeoutMs,
  })
  .meta({ id: 'WaitRequest' })
export const waitResponseSchema = z.object({ lsn }).meta({ id: 'WaitResponse' })

export const verifyRequestSchema = z
  .strictObject({
    tables: z
      .array(tableName)
      .nullable()
      .default(null)
      .meta({ description: 'null: all; those that are copied, paused or failed are failed here too.' }),
  })
  .meta({ id: 'VerifyRequest' })
export const verifyLineSchema = z
  .union([
    z.object({
      progress: z.object({
        table: tableName,
        phase: z.enum(['source', 'mirror', 'rows']).meta({ description: 'What is being read: either side, or the rows of what differs.' }),
        done: z.number().meta({ description: 'Share of the phase, 0 to 1.' }),
      }),
    }),
    z.object({
      table: tableName,
      result: z.enum(['equal', 'different', 'failed']),
      lsn: lsn.nullable(),
      sourceRows: whole.nullable(),
      mirrorRows: whole.nullable(),
      differences: z
        .array(z.object({ kind: z.enum(['missing', 'extra', 'different']), key: z.array(z.string().nullable()) }))
        .meta({ description: 'missing: only in the source; extra: only in the mirror; different: other values under one key.' }),
      moreDifferences: z.boolean(),
      durationMs: whole.nullable(),
      reason: z.string().nullable(),
    }),
  ])
  .meta({ id: 'VerifyLine' })

export const flushRequestSchema = z
  .strictObject({ tables: z.array(tableName).nullable().default(null).meta({ description: 'null: all.' }) })
  .meta({ id: 'FlushRequest' })
export const flushResponseSchema = z
  .object({ tables: z.array(z.object({ name: tableName, committedLsn: lsn.nullable(), snapshotId: id64.nullable() })) })
  .meta({ id: 'FlushResponse' })

export const listedTableSchema = z
  .object({
    name: tableName,
    mirrored: z.boolean(),
    state: z.enum(['copying', 'streaming', 'paused', 'failed']).nullable(),
    reason: z.string().nullable().meta({ description: 'Why it cannot be mirrored, is paused, or what its copy waits for.' }),
    notes: z
      .array(z.string())
      .readonly()
      .meta({ description: 'What is worth knowing of its mirror: columns left out, and those that not every reader has.' }),
  })
  .meta({ id: 'ListedTable' })
export const tablesResponseSchema = z
  .object({
    tables: z.array(listedTableSchema).readonly(),
    sourceReason: z
      .string()
      .nullable()
      .meta({ description: 'Why the source could not be asked, so that only what is mirrored is listed; null where it was.' }),
  })
  .meta({ id: 'Tables' })
export const addTablesRequestSchema = z.strictObject({ tables: z.array(tableName).min(1) }).meta({ id: 'AddTables' })
export const dropTableQuerySchema = z.strictObject({
  purge: z.enum(['true', 'false']).default('false').meta({ description: 'Remove the Iceberg table and its files too.' }),
})
export const doneSchema = z.object({ done: z.literal(true) }).meta({ id: 'Done' })
export const uninstalledSchema = z
  .object({
    done: z.literal(true),
    slot: z.string().nullable().meta({ description: 'The slot that was removed; null where there was none.' }),
    publications: z.array(z.string()).meta({ description: 'The publications that were removed.' }),
    keptPublications: z.array(z.string()).meta({ description: 'The publication that was used and stays, since Moonlink did not make it.' }),
  })
  .meta({ id: 'Uninstalled' })

export type StatusReport = z.infer<typeof statusSchema>
export type TableStatusReport = z.infer<typeof tableStatusSchema>
export type ListedTable = z.infer<typeof listedTableSchema>
export type TablesReport = z.infer<typeof tablesResponseSchema>
export type VerifyLine = z.infer<typeof verifyLineSchema>
export type VerifiedReport = z.infer<typeof verifiedSchema>
export type FlushReport = z.infer<typeof flushResponseSchema>
export type HealthReport = z.infer<typeof healthSchema>
export type ReadyReport = z.infer<typeof readySchema>
export type ErrorBody = z.infer<typeof errorSchema>
