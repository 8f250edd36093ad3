import { isLoopback } from './loopback.ts'
import type { ParsedConfig } from './schema.ts'
import { formatBytes, formatDuration, withoutZero } from './units.ts'

/** What one connection of a copy holds at least: two batches of a table, of 1 MiB each. */
const COPY_CONNECTION_BYTES = 2 * 1024 * 1024

/** What is wrong with settings that are each right by themselves: a line that names them and the remedy; null where nothing is. */
export function contradictionIn({ changeLog, copy, http, memory, standby }: ParsedConfig): string | null {
  if (!isLoopback(http.listen) && http.token === undefined)
    return `http.listen: "${http.listen}" can be reached from other machines, so http.token (or MOONLINK_HTTP_TOKEN) must be set; or listen on 127.0.0.1.`
  if (standby.enabled && (!changeLog.enabled || changeLog.kind === 'local'))
    return 'standby.enabled: a standby needs the change log in the object store; set changeLog.kind to store for both backends.'
  const takeoverMs = 3 * standby.renewIntervalMs
  if (standby.takeoverMs < takeoverMs)
    return `standby.takeoverMs: must be at least three times standby.renewIntervalMs (${withoutZero(formatDuration(takeoverMs))}).`
  const copyBytes = copy.connections * copy.parallelTables * COPY_CONNECTION_BYTES
  if (copyBytes > memory.limitBytes)
    return `copy.connections: ${copy.connections} connections for ${copy.parallelTables} tables at once take at least ${withoutZero(formatBytes(copyBytes))}, more than memory.limitBytes (${withoutZero(formatBytes(memory.limitBytes))}); use fewer, lower copy.parallelTables, or raise the limit.`
  return null
}
