import { canonicalTableName, formatLsn, parseLsn } from '@moonlink/core'
import type { z } from 'zod'
import type { Operations } from '../service/operations.ts'
import { verifyLines } from '../verify/report.ts'
import { jsonDocument, jsonLines, textStream } from './query-stream.ts'
import * as schemas from './schemas.ts'

/** One operation of the API: what it takes, what it answers, and what the OpenAPI document says of it. */
export interface Endpoint {
  readonly name: string
  readonly method: 'get' | 'post' | 'delete'
  /** With `:name` for a path parameter. */
  readonly path: string
  readonly summary: string
  readonly body?: z.ZodType
  readonly query?: z.ZodType
  /** The JSON document that it answers, if it does. */
  readonly response?: z.ZodType
  /** A line of the NDJSON that it answers, if it does. */
  readonly lines?: z.ZodType
  readonly successStatus?: number
  /** Further statuses with the same answer, and what they say. */
  readonly otherStatuses?: Readonly<Record<string, string>>
  /** Answered without a token: it tells nothing. */
  readonly open?: boolean
  handle(operations: Operations, input: EndpointInput): Promise<Response>
}

export interface EndpointInput {
  readonly body: unknown
  readonly query: unknown
  readonly path: Readonly<Record<string, string>>
}

const lsnOrNull = (text: string | null) => (text === null ? null : parseLsn(text))

export const endpoints: readonly Endpoint[] = [
  {
    name: 'health',
    method: 'get',
    path: '/health',
    summary: 'Answers as long as the process works.',
    response: schemas.healthSchema,
    open: true,
    handle: async (operations) => Response.json(operations.health()),
  },
  {
    name: 'ready',
    method: 'get',
    path: '/ready',
    summary: 'Whether the stream is connected and every table is streaming or paused; 503 where not, as of a standby.',
    response: schemas.readySchema,
    otherStatuses: { 503: 'Not yet.' },
    open: true,
    handle: async (operations) => {
      const report = operations.ready()
      return Response.json(report, { status: report.ready ? 200 : 503 })
    },
  },
  {
    name: 'status',
    method: 'get',
    path: '/status',
    summary: 'The source and every mirrored table.',
    response: schemas.statusSchema,
    handle: async (operations) => Response.json(await operations.status()),
  },
  {
    name: 'query',
    method: 'post',
    path: '/query',
    summary: 'Runs one SQL query over the tables as of one LSN. Large results stream.',
    body: schemas.queryRequestSchema,
    response: schemas.queryResponseSchema,
    lines: schemas.queryLineSchema,
    handle: async (operations, input) => {
      const { sql, atLsn, timeoutMs, format } = input.body as z.output<typeof schemas.queryRequestSchema>
      const query = await operations.query({ sql, atLsn: lsnOrNull(atLsn), timeoutMs })
      const lines = format === 'lines'
      return new Response(
        textStream(lines ? jsonLines(query) : jsonDocument(query), () => query.close()),
        {
          headers: { 'content-type': lines ? 'application/x-ndjson' : 'application/json' },
        },
      )
    },
  },
  {
    name: 'wait',
    method: 'post',
    path: '/wait',
    summary:
      'Returns when reads, or Iceberg, cover an LSN. A paused table that Iceberg does not have up to there is an error (TABLE_PAUSED).',
    body: schemas.waitRequestSchema,
    response: schemas.waitResponseSchema,
    handle: async (operations, input) => {
      const { lsn, iceberg, timeoutMs } = input.body as z.output<typeof schemas.waitRequestSchema>
      return Response.json({ lsn: formatLsn(await operations.wait({ lsn: lsnOrNull(lsn), iceberg, timeoutMs })) })
    },
  },
  {
    name: 'flush',
    method: 'post',
    path: '/flush',
    summary: 'Commits what is applied to Iceberg, and returns when that is done.',
    body: schemas.flushRequestSchema,
    response: schemas.flushResponseSchema,
    handle: async (operations, input) =>
      Response.json(await operations.flush((input.body as z.output<typeof schemas.flushRequestSchema>).tables)),
  },
  {
    name: 'verify',
    method: 'post',
    path: '/verify',
    summary: 'Compares tables with the source, row for row, at one exact LSN each. Answers with NDJSON: progress, and a line a table.',
    body: schemas.verifyRequestSchema,
    lines: schemas.verifyLineSchema,
    handle: async (operations, input) => {
      const events = operations.verify((input.body as z.output<typeof schemas.verifyRequestSchema>).tables)
      return new Response(
        textStream(verifyLines(events), () => undefined),
        { headers: { 'content-type': 'application/x-ndjson' } },
      )
    },
  },
  {
    name: 'listTables',
    method: 'get',
    path: '/tables',
    summary: 'Every table of the source: mirrored, or why not. Those that are mirrored, where the source can not be asked.',
    response: schemas.tablesResponseSchema,
    handle: async (operations) => Response.json(await operations.listTables()),
  },
  {
    name: 'addTables',
    method: 'post',
    path: '/tables',
    summary: 'Begins to mirror tables. Their initial copy goes on after the answer.',
    body: schemas.addTablesRequestSchema,
    response: schemas.doneSchema,
    handle: async (operations, input) => {
      await operations.addTables((input.body as z.output<typeof schemas.addTablesRequestSchema>).tables)
      return Response.json({ done: true })
    },
  },
  {
    name: 'dropTable',
    method: 'delete',
    path: '/tables/:table',
    summary: 'Ends the mirroring of a table. The Iceberg table stays unless purge is true.',
    query: schemas.dropTableQuerySchema,
    response: schemas.doneSchema,
    handle: async (operations, input) => {
      const { purge } = input.query as z.output<typeof schemas.dropTableQuerySchema>
      await operations.dropTable(canonicalTableName(input.path['table']), purge === 'true')
      return Response.json({ done: true })
    },
  },
  {
    name: 'pauseTable',
    method: 'post',
    path: '/tables/:table/pause',
    summary: 'Takes no more changes of a table until it is resumed; the slot is not held for it.',
    response: schemas.doneSchema,
    handle: async (operations, input) => {
      await operations.pauseTable(canonicalTableName(input.path['table']))
      return Response.json({ done: true })
    },
  },
  {
    name: 'resumeTable',
    method: 'post',
    path: '/tables/:table/resume',
    summary:
      'Goes on with a paused or failed table: what it missed is found by comparing it with the source. That goes on after the answer.',
    response: schemas.doneSchema,
    handle: async (operations, input) => {
      await operations.resyncTable(canonicalTableName(input.path['table']), 'it was paused')
      return Response.json({ done: true })
    },
  },
  {
    name: 'resyncTable',
    method: 'post',
    path: '/tables/:table/resync',
    summary: 'Compares a table with the source and writes what differs. That goes on after the answer; what is readable stays so.',
    response: schemas.doneSchema,
    handle: async (operations, input) => {
      await operations.resyncTable(canonicalTableName(input.path['table']), 'asked for')
      return Response.json({ done: true })
    },
  },
  {
    name: 'stop',
    method: 'post',
    path: '/stop',
    summary: 'Begins a graceful stop: everything is flushed and committed first.',
    response: schemas.doneSchema,
    successStatus: 202,
    handle: async (operations) => {
      operations.requestStop()
      return Response.json({ done: true }, { status: 202 })
    },
  },
  {
    name: 'uninstall',
    method: 'post',
    path: '/uninstall',
    summary: 'Removes slot and publication from the source, then stops. Iceberg tables stay.',
    response: schemas.uninstalledSchema,
    handle: async (operations) => Response.json({ done: true, ...(await operations.uninstall()) }),
  },
]
