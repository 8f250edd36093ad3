import { join } from 'node:path'
import { fileUriToPath } from '@moonlink/object-store'
import type { LocalFileSets, Logger, TextCopies } from '@moonlink/core'
import { SqlEngine } from '@moonlink/sql'
import type { ReadLeaseSource } from '@moonlink/union-read'
import type { Config } from '../config/schema.ts'
import { variantCopiesDirectory } from './open-warehouse.ts'
import type { QueryEngine } from './parts.ts'

const housekeepMs = 30_000

/** Data files as DuckDB can read them. */
export interface ReadableFiles {
  readonly localFiles: LocalFileSets
  readonly textCopies: TextCopies
}

/** SQL over union reads. */
export async function openQueryEngine(
  config: Config,
  leases: ReadLeaseSource,
  { localFiles, textCopies }: ReadableFiles,
  logger: Logger,
): Promise<QueryEngine> {
  const sql = await SqlEngine.create({
    leases,
    files: localFiles,
    textCopies,
    logger,
    memoryLimitBytes: config.sql.memoryBytes,
    spillLimitBytes: config.sql.spillBytes,
    threads: config.sql.threads,
    maxQueries: config.sql.maxQueries,
    tempDirectory: join(config.stateDir, 'spill'),
    allowedDirectories: localDirectories(config),
  })
  const timer = setInterval(
    () => void sql.housekeep().catch((error: unknown) => logger.warn('SQL housekeeping failed', { error: String(error) })),
    housekeepMs,
  )
  timer.unref()
  return {
    query: async (text, lsn, timeoutMs) => {
      const result = await sql.query({ sql: text, lsn, timeoutMs })
      return { lsn: result.lsn, columns: result.columns, rows: result.rows(), close: () => void result.close() }
    },
    close: async () => {
      clearInterval(timer)
      await sql.close()
    },
  }
}

/** Where data files are read from: the warehouse, where it is local, the cache, and the copies of files with variants. A catalog that chooses locations may choose any. */
function localDirectories(config: Config): string[] {
  const { stateDir, warehouse } = config
  if (warehouse === null) return ['/']
  const copies = [join(stateDir, 'cache'), variantCopiesDirectory(config)]
  return warehouse.startsWith('file://') ? [fileUriToPath(warehouse), ...copies] : copies
}
