import { mkdir } from 'node:fs/promises'
import { DuckDBInstance } from '@duckdb/node-api'
import { quoteName, quoteText } from './sql-text.ts'

/** The database of the native tables: a name that no schema of a source is likely to have. */
export const NATIVE_DATABASE = '$native'

/** Databases that every instance has. */
export const OWN_DATABASES: ReadonlySet<string> = new Set(['memory', 'system', 'temp', NATIVE_DATABASE])

export interface DuckdbOptions {
  readonly memoryLimitBytes: number
  readonly threads: number
  readonly tempDirectory: string
  readonly spillLimitBytes?: number
  readonly allowedDirectories: readonly string[]
}

/** An in-memory instance that reads files only below the allowed directories, and whose settings can't be changed any more. */
export async function openDuckdb(options: DuckdbOptions): Promise<DuckDBInstance> {
  await mkdir(options.tempDirectory, { recursive: true })
  const instance = await DuckDBInstance.create(':memory:', {
    threads: String(options.threads),
    memory_limit: `${options.memoryLimitBytes}B`,
    temp_directory: options.tempDirectory,
    ...(options.spillLimitBytes === undefined ? {} : { max_temp_directory_size: `${options.spillLimitBytes}B` }),
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
    allow_community_extensions: 'false',
    allow_persistent_secrets: 'false',
  })
  const directories = options.allowedDirectories.map(quoteText).join(', ')
  const settings = [
    `ATTACH ':memory:' AS ${quoteName(NATIVE_DATABASE)}`,
    `SET GLOBAL TimeZone = 'UTC'`,
    'SET GLOBAL parquet_metadata_cache = true',
    `SET GLOBAL allowed_directories = [${directories}]`,
    'SET GLOBAL enable_external_access = false',
    'SET GLOBAL lock_configuration = true',
  ]
  const connection = await instance.connect()
  await connection.run(settings.join('; '))
  connection.closeSync()
  return instance
}
