import { once } from 'node:events'
import { formatLsn, isMoonlinkError, MoonlinkError, parseLsn, type JsonValue } from '@moonlink/core'
import type { Uninstalled } from '@moonlink/pg-source'
import { parseDurationMs } from '../config/units.ts'
import {
  flushResponseSchema,
  queryLineSchemas,
  statusSchema,
  tablesResponseSchema,
  uninstalledSchema,
  waitResponseSchema,
  type ListedTable,
} from '../http/schemas.ts'
import type { BackendClient } from './client.ts'
import { parsedOr, usageError } from './exit.ts'
import { resultPrinter, type ResultFormat } from './result-format.ts'
import { statusLines } from './status-view.ts'
import { textTable } from './text-table.ts'
import { visible, visibleJson } from '../visible.ts'

/** Writes text and waits where its reader is slower than we are. */
export async function print(text: string): Promise<void> {
  if (text !== '' && !process.stdout.write(text)) await once(process.stdout, 'drain')
}

/** Prints a line for people. */
export function say(line: string): Promise<void> {
  return print(`${visible(line)}\n`)
}

export function printJson(value: unknown): Promise<void> {
  return print(`${visibleJson(JSON.stringify(value, null, 2))}\n`)
}

export async function status(client: BackendClient, options: { json?: boolean }): Promise<void> {
  const report = await client.get('/status', statusSchema)
  await (options.json ? printJson(report) : print(`${statusLines(report).join('\n')}\n`))
}

export async function query(
  client: BackendClient,
  sql: string,
  options: { atLsn?: string; format: string; timeout: string },
): Promise<void> {
  const { format } = options
  if (sql.trim() === '') throw usageError('the statement is empty; write one SELECT.')
  if (format !== 'table' && format !== 'json' && format !== 'csv') throw usageError(`--format must be table, json or csv, not "${format}".`)
  const body = { sql, atLsn: lsnOption(options.atLsn), timeoutMs: timeoutOption(options.timeout), format: 'lines' }
  await printResult(client, client.lines('/query', body), format)
}

async function printResult(client: BackendClient, lines: AsyncIterable<JsonValue>, format: ResultFormat): Promise<void> {
  const printer = resultPrinter(format, process.stdout.isTTY ? process.stdout.columns : undefined)
  let width: number | null = null
  for await (const line of lines) {
    if (width === null) {
      const { columns } = client.understood(queryLineSchemas.first, line)
      width = columns.length
      await print(printer.begin(columns))
    } else if (Array.isArray(line)) await print(printer.row(client.understood(queryLineSchemas.row.length(width), line) as JsonValue[]))
    else {
      client.understood(queryLineSchemas.last, line)
      return print(printer.end())
    }
  }
  throw new MoonlinkError('retry', 'RESULT_CUT', 'the backend ended before the result did.')
}

const connectWaitMs = 15_000

export async function wait(client: BackendClient, options: { lsn?: string; iceberg?: boolean; timeout: string }): Promise<void> {
  const timeoutMs = timeoutOption(options.timeout)
  const request = { lsn: lsnOption(options.lsn), iceberg: options.iceberg === true }
  const begunMs = performance.now()
  // A script that starts a backend waits for it next: so one that is not up yet is given a moment, and one that starts all the time that there is.
  const patienceMs = new Map([
    ['BACKEND_UNREACHABLE', Math.min(timeoutMs, connectWaitMs)],
    ['STARTING', timeoutMs],
  ])
  for (;;) {
    const goneMs = performance.now() - begunMs
    try {
      const { lsn } = await client.post('/wait', { ...request, timeoutMs: Math.max(0, Math.round(timeoutMs - goneMs)) }, waitResponseSchema)
      return await print(`${lsn}\n`)
    } catch (error) {
      if (!isMoonlinkError(error) || goneMs > (patienceMs.get(error.code) ?? 0)) throw waitedFor(error, goneMs)
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  }
}

function waitedFor(error: unknown, goneMs: number): unknown {
  if (!isMoonlinkError(error) || error.code !== 'STARTING') return error
  const message = `the mirror is still starting after ${Math.round(goneMs)} ms; moonlink status says what is waited for.`
  return new MoonlinkError('retry', 'TIMED_OUT', message, { cause: error })
}

export async function flush(client: BackendClient, table: string | undefined): Promise<void> {
  const report = await client.post('/flush', { tables: table === undefined ? null : [table] }, flushResponseSchema)
  for (const flushed of report.tables) await say(`${flushed.name} committed ${flushed.committedLsn ?? '–'}`)
}

export async function listTables(client: BackendClient, options: { json?: boolean }): Promise<void> {
  const { sourceReason, tables } = await client.get('/tables', tablesResponseSchema)
  if (options.json) await printJson(tables)
  else await print(`${textTable(['table', 'state', 'reason'], tables.map(tableRow)).join('\n')}\n`)
  if (sourceReason !== null)
    process.stderr.write(`${visible(`warning: the source could not be asked, so only what is mirrored is listed: ${sourceReason}`)}\n`)
}

function tableRow({ mirrored, name, notes, reason, state }: ListedTable): string[] {
  const why = reason ?? (mirrored ? notes.join('; ') : 'not chosen; moonlink tables add mirrors it')
  return [name, mirrored ? (state ?? 'mirrored') : 'not mirrored', why].map(visible)
}

export async function addTables(client: BackendClient, tables: readonly string[]): Promise<void> {
  await client.post('/tables', { tables })
  await say(`mirroring ${tables.join(', ')}`)
  const { tables: listed } = await client.get('/tables', tablesResponseSchema)
  for (const { name, notes } of listed) if (tables.includes(name)) for (const note of notes) await say(`${name}: ${note}`)
}

export async function dropTable(client: BackendClient, table: string, options: { purge?: boolean }): Promise<void> {
  await client.delete(`/tables/${encodeURIComponent(table)}?purge=${options.purge === true}`)
  await say(`${table} is no longer mirrored; its Iceberg table ${options.purge ? 'is removed' : 'stays'}`)
}

const tableChanges = {
  pause: 'is paused',
  resume: 'is compared with its source and goes on',
  resync: 'is compared with its source',
} as const

export async function changeTable(client: BackendClient, table: string, change: keyof typeof tableChanges): Promise<void> {
  await client.post(`/tables/${encodeURIComponent(table)}/${change}`)
  await say(`${table} ${tableChanges[change]}`)
}

/** Asks the backend to stop and returns when it has: when nobody answers any more. */
export async function stop(client: BackendClient): Promise<void> {
  await client.post('/stop')
  await waitGone(client)
  await say('stopped')
}

export async function uninstall(client: BackendClient): Promise<void> {
  const removed = await client.post('/uninstall', {}, uninstalledSchema).catch((error: unknown) => {
    if (!isMoonlinkError(error) || error.code !== 'BACKEND_UNREACHABLE') throw error
    const message = `no backend answers at ${client.url}. Name it with --url, or the source with --source or --config: no backend is needed then.`
    throw new MoonlinkError('retry', 'BACKEND_UNREACHABLE', message, { cause: error })
  })
  await waitGone(client)
  await say(removedText(removed))
}

/** What `uninstall` did, in a line. */
export function removedText({ keptPublications, publications, slot }: Uninstalled): string {
  const removed = [...(slot === null ? [] : [`slot ${slot}`]), ...publications.map((name) => `publication ${name}`)]
  const kept = keptPublications.map((name) => `publication ${name}, which Moonlink did not make, stays`)
  const done = removed.length === 0 ? 'there was no slot and no publication of ours to remove' : `removed ${removed.join(' and ')}`
  return [done, ...kept, 'the Iceberg tables stay'].join('; ')
}

async function waitGone(client: BackendClient): Promise<void> {
  for (;;) {
    try {
      await client.get('/health')
    } catch (error) {
      if (isMoonlinkError(error) && error.code === 'BACKEND_UNREACHABLE') return
      // It ends while it answers.
      if (!isMoonlinkError(error) || error.code !== 'RESULT_CUT') throw error
    }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

function lsnOption(text: string | undefined): string | null {
  return text === undefined ? null : formatLsn(parsedOr(() => parseLsn(text), ''))
}

function timeoutOption(text: string): number {
  const bare = /^\s*(\d*\.?\d+)\s*$/.exec(text)?.[1]
  if (bare !== undefined && Number(bare) !== 0) throw usageError(`--timeout ${bare} has no unit; write ${bare}s, or ${bare}ms, ${bare}m.`)
  return parsedOr(() => parseDurationMs(text), `--timeout must be a time such as 60s, not "${text}".`)
}
