import { statSync } from 'node:fs'
import { dirname } from 'node:path'
import {
  isMoonlinkError,
  MoonlinkError,
  type ColumnBatch,
  type ErrorKind,
  type Field,
  type RowsToWrite,
  type ScannedBatch,
  type TableSchema,
} from '@moonlink/core'
import type { ReadWindow } from './file-plan.ts'
import type { EncodedParquet, EncodeOptions, FileLineage, ParquetSource } from './types.ts'
import type { EncodedRowGroup } from './write/row-group.ts'

/** What a worker can be asked to do, and what it answers. */
export interface Jobs {
  readonly encode: {
    readonly request: { readonly rows: RowsToWrite; readonly schema: TableSchema; readonly options: EncodeOptions }
    readonly result: EncodedParquet
  }
  readonly groups: {
    readonly request: Jobs['encode']['request']
    readonly result: readonly EncodedRowGroup[]
  }
  readonly plan: {
    readonly request: { readonly source: ParquetSource; readonly fields: readonly Field[]; readonly lineage: FileLineage | null }
    readonly result: readonly ReadWindow[]
  }
  readonly read: {
    readonly request: Jobs['plan']['request'] & { readonly window: ReadWindow }
    readonly result: ScannedBatch
  }
  readonly fetch: {
    readonly request: { readonly source: ParquetSource; readonly positions: Uint32Array; readonly fields: readonly Field[] }
    readonly result: ColumnBatch
  }
}

export type JobKind = keyof Jobs

export type WorkerRequest = { [K in JobKind]: { readonly kind: K } & Jobs[K]['request'] }[JobKind]

/** A worker answers its requests one by one, in order. */
export type WorkerResponse = { readonly memoryBytes: number } & (
  | { readonly ok: true; readonly result: Jobs[JobKind]['result'] }
  | { readonly ok: false; readonly error: ErrorMessage }
)

export function isWrite(job: JobKind): boolean {
  return job === 'encode' || job === 'groups'
}

/** An error as plain data: classes do not survive the way between threads. */
export interface ErrorMessage {
  readonly kind: ErrorKind
  readonly code: string
  readonly message: string
  readonly context: Readonly<Record<string, unknown>>
}

export function errorMessage(error: unknown, job: JobKind): ErrorMessage {
  if (isMoonlinkError(error)) return { kind: error.kind, code: error.code, message: error.message, context: error.context }
  if (error instanceof Error && 'errno' in error && !isWrite(job)) return unreadFile(error as NodeJS.ErrnoException)
  const kind = isWrite(job) ? 'bug' : 'corrupt'
  return { kind, code: 'PARQUET_FAILED', message: `the Parquet codec failed: ${String(error)}`, context: {} }
}

/** The system's error, which says nothing of what the file has. */
function unreadFile(error: NodeJS.ErrnoException): ErrorMessage {
  const { code, path } = error
  const isAbsent = code === 'ENOENT' || code === 'ENOTDIR'
  // Who removes a file leaves its directory.
  if (isAbsent && (path === undefined || statSync(dirname(path), { throwIfNoEntry: false })?.isDirectory() === true))
    return { kind: 'invalid', code: 'PARQUET_FILE_NOT_FOUND', message: `${String(error)}; the file was removed`, context: {} }
  if (code === 'EACCES' || code === 'EPERM')
    return { kind: 'invalid', code: 'STORE_NOT_READABLE', message: `${String(error)}: give this user read permission on it.`, context: {} }
  const message = `the file could not be read${isAbsent ? ', for its directory is away' : ''}: ${String(error)}.`
  return { kind: 'retry', code: 'STORE_UNAVAILABLE', message, context: {} }
}

export function toError({ kind, code, message, context }: ErrorMessage): MoonlinkError {
  return new MoonlinkError(kind, code, message, { context })
}
