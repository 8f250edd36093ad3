import { formatBytes, formatDuration } from '../config/units.ts'
import type { StatusReport, TableStatusReport } from '../http/schemas.ts'
import { isHeadroomLow, isUnlimited } from '../service/slot-watch.ts'
import { textTable, textWidth } from './text-table.ts'
import { visible } from '../visible.ts'

const header = ['table', 'state', 'rows', 'applied', 'committed', 'lag', 'memory', 'files', 'vectors']
const rightAligned = new Set(['rows', 'lag', 'memory', 'files', 'vectors'])
/** What goes first where there is no room for all. */
const dispensable = ['memory', 'vectors', 'applied']

/** The status for people: the source in two lines, then the tables, with as many of their columns as `room` (in terminal columns) has room for. */
export function statusLines(status: StatusReport, room = Number.POSITIVE_INFINITY): string[] {
  const { source, tables } = status
  const link = source.connected ? 'connected' : `not connected${source.reason === null ? '' : `: ${source.reason}`}`
  const rows = tables.map(tableRow)
  const reasons = tables.flatMap((table) => (table.reason === null ? [] : [`${table.name} is ${table.state}: ${table.reason}`]))
  return [
    `Postgres ${source.serverVersion}, ${link}; database ${source.database}, slot ${source.slot}, publication ${source.publication}`,
    ...(source.freshnessMs === null ? [] : [`newest change readable ${formatDuration(source.freshnessMs)} after its commit`]),
    `source at ${source.sourceLsn}, slot confirmed ${source.confirmedFlushLsn ?? '–'}, ${formatBytes(source.lagBytes)} held by the slot${lagText(source.lagMs)}${slotText(source)}`,
    ...source.waits.map((wait) => `waiting: ${wait}`),
    ...source.notes.map((note) => `note: ${note}`),
    ...logText(status.log),
    '',
    ...(rows.length === 0 ? ['no tables are mirrored'] : tableWithin(rows, room)),
    ...(reasons.length === 0 ? [] : ['', ...reasons]),
    ...tables.flatMap(copyLines),
    ...tables.flatMap(unfitLines),
    ...tables.flatMap(({ name, notes }) => notes.map((note) => `${name}: ${note}`)),
  ].map(visible)
}

function tableWithin(rows: readonly (readonly string[])[], room: number): string[] {
  for (let left = 0; ; left++) {
    const kept = header.flatMap((name, column) => (dispensable.slice(0, left).includes(name) ? [] : [column]))
    const names = kept.map((column) => header[column])
    const lines = textTable(
      names,
      rows.map((row) => kept.map((column) => row[column])),
      new Set(names.flatMap((name, column) => (rightAligned.has(name) ? [column] : []))),
    )
    if (textWidth(lines[1]) < room || left === dispensable.length) return lines
  }
}

function unfitLines({ name, unfit }: TableStatusReport): string[] {
  return unfit.map(({ column, action, values }) => {
    const became = action === 'null' ? 'are null' : `are text in "${column}_text"`
    return `${name}: ${values.toLocaleString('en-US')} values of "${column}" did not fit and ${became}`
  })
}

/** From here on tables are committed early for it. */
const nearBoundShare = 0.5

function logText(log: StatusReport['log']): string[] {
  if (log === null) return []
  const held = `${formatBytes(log.bytes)} of ${formatBytes(log.maxBytes)}`
  const range = log.startLsn === null ? 'empty' : `${log.startLsn} to ${log.endLsn ?? ''}, ${held}`
  const warning =
    log.bytes < log.maxBytes * nearBoundShare ? '' : '; Iceberg commits do not keep up, and beyond that the slot keeps what comes'
  return [`change log: ${range}${log.reason === null ? warning : `; stopped: ${log.reason}`}`]
}

/** It is told once a second, and looked at every few. */
const usualLagMs = 10_000

function lagText(lagMs: number): string {
  return lagMs < usualLagMs ? '' : `, which is behind for ${formatDuration(lagMs)}`
}

function slotText({ lagBytes, slotStatus, slotHeadroomBytes }: StatusReport['source']): string {
  const remedy = isHeadroomLow(lagBytes, slotHeadroomBytes) ? ': find out why the mirror is behind, or raise max_slot_wal_keep_size' : ''
  const unlimited = isUnlimited(lagBytes, slotHeadroomBytes) ? ', and nothing limits that (max_slot_wal_keep_size)' : ''
  const headroom = slotHeadroomBytes === null ? unlimited : `, ${formatBytes(slotHeadroomBytes)} until the server drops it${remedy}`
  return slotStatus === 'unreserved' || slotStatus === 'lost' ? `${headroom}; the slot is ${slotStatus}` : headroom
}

function tableRow(table: TableStatusReport): string[] {
  return [
    visible(table.name),
    table.state === 'copying' ? copyProgress(table) : table.state,
    table.rows.toLocaleString('en-US'),
    table.appliedLsn ?? '–',
    table.committedLsn ?? '–',
    table.state === 'streaming' ? (table.lagMs === 0 ? 'none' : formatDuration(table.lagMs)) : '–',
    formatBytes(table.memoryBytes),
    String(table.dataFiles),
    String(table.deletionVectors),
  ]
}

function copyLines({ copy, name }: TableStatusReport): string[] {
  if (copy === null || copy.totalBytes === 0) return []
  const left = copy.leftMs === null ? '' : `, ${formatDuration(copy.leftMs)} left`
  return [`${name}: ${formatBytes(copy.bytes)} of ${formatBytes(copy.totalBytes)} copied${left}`]
}

/** `copying ████░░░░ 47 %`; without an estimate only the word. */
function copyProgress({ copy }: TableStatusReport): string {
  if (copy === null) return 'copying'
  const { share } = copy
  const filled = Math.floor(share * 10)
  return `copying ${'█'.repeat(filled)}${'░'.repeat(10 - filled)} ${Math.floor(share * 100)} %`
}
