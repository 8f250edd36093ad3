import { deserialize, serialize } from 'node:v8'
import { isMarkedAsUntransferable } from 'node:worker_threads'
import { crc32 } from 'node:zlib'
import {
  BatchBuilder,
  conformBatch,
  gatherBatch,
  MoonlinkError,
  sliceBatch,
  type Column,
  type ColumnBatch,
  type Field,
  type LocalDisk,
  type RowsToWrite,
} from '@moonlink/core'
import type { ParquetPort } from '@moonlink/iceberg-writer'
import type { SimProcess } from './sim-process.ts'

type ParquetSource = Parameters<ParquetPort['scan']>[0]

interface Stored {
  readonly rows: ColumnBatch
  readonly rowIds: Float64Array | null
  readonly lastUpdated: Float64Array | null
}

const SCAN_ROWS = 16
const CHECKSUM_BYTES = 4

/** The rows of a file that `simParquet` encoded. */
export function decodeSimFile(bytes: Uint8Array): Stored {
  const content = bytes.subarray(0, -CHECKSUM_BYTES)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (crc32(content) !== view.getUint32(content.length))
    throw new MoonlinkError('corrupt', 'PARQUET_MALFORMED', 'a page is not what was written')
  const stored = deserialize(content) as Stored
  return { ...stored, rows: { ...stored.rows, columns: stored.rows.columns.map(aligned) } }
}

/** In memory of its own: what `deserialize` gives lies anywhere. */
function aligned(column: Column): Column {
  return { ...column, values: column.values.slice(), children: column.children.map(aligned) }
}

function encodeSimFile({ rows, rowIds, lastUpdated }: RowsToWrite) {
  const stored: Stored = { rows: sliceBatch(rows, 0, rows.length), rowIds, lastUpdated }
  const none = { columnSizes: {}, valueCounts: {}, nullCounts: {}, nanCounts: {}, lowerBounds: {}, upperBounds: {}, splitOffsets: [4] }
  const content = serialize(stored)
  const checksum = Buffer.alloc(CHECKSUM_BYTES)
  checksum.writeUInt32BE(crc32(content))
  return { bytes: Buffer.concat([content, checksum]), recordCount: rows.length, metrics: none }
}

/** Stands for Parquet in simulations: the same contract, in this thread, in microseconds. */
export const simParquet: ParquetPort = {
  encode: async (rows) => encodeSimFile(rows),
  createFile(fields) {
    const builder = new BatchBuilder(fields)
    const rowIds: number[] = []
    const lastUpdated: number[] = []
    return {
      get recordCount() {
        return builder.length
      },
      get byteSize() {
        return builder.usedBytes
      },
      append: async (rows, lineage) => {
        builder.appendRange(rows)
        rowIds.push(...(lineage?.rowIds ?? []))
        lastUpdated.push(...(lineage?.lastUpdated ?? []))
      },
      finish: () => {
        const [ids, updated] = [rowIds, lastUpdated].map((values) => (values.length > 0 ? Float64Array.from(values) : null))
        return encodeSimFile({ rows: builder.view(), rowIds: ids, lastUpdated: updated })
      },
    }
  },
  async *scan(source, { fields, lineage }) {
    const { rows, rowIds, lastUpdated } = decodeSimFile(bytesOf(source))
    const shown = conformBatch(rows, fields)
    for (let firstRow = 0; firstRow < rows.length; firstRow += SCAN_ROWS) {
      const to = Math.min(rows.length, firstRow + SCAN_ROWS)
      const resolved = (stored: Float64Array | null, inherited: (row: number) => number) =>
        Float64Array.from({ length: to - firstRow }, (_, index) => {
          const kept = stored?.[firstRow + index] ?? -1
          return kept >= 0 ? kept : inherited(firstRow + index)
        })
      yield {
        firstRow,
        rows: sliceBatch(shown, firstRow, to),
        rowIds: lineage && resolved(rowIds, (row) => lineage.firstRowId + row),
        lastUpdated: lineage && resolved(lastUpdated, () => lineage.dataSequenceNumber),
      }
    }
  },
  async fetch(source, positions: Uint32Array, fields: readonly Field[]) {
    return gatherBatch(conformBatch(decodeSimFile(bytesOf(source)).rows, fields), positions)
  },
}

/** `simParquet` as one that works in threads: those of a process, which end now and then, and read its disk. What is handed to them is gone, whatever becomes of it. */
export function threadedParquet(process: SimProcess, disk: LocalDisk): ParquetPort {
  const consuming = async <T>(rows: ColumnBatch, work: () => Promise<T>): Promise<T> => {
    try {
      return await process.threaded(work)
    } finally {
      for (const column of rows.columns) detach(column)
    }
  }
  return {
    encode: (rows, schema) => consuming(rows.rows, () => simParquet.encode(rows, schema)),
    createFile(fields) {
      const file = simParquet.createFile(fields)
      return {
        get recordCount() {
          return file.recordCount
        },
        get byteSize() {
          return file.byteSize
        },
        append: (rows, lineage) => consuming(rows, () => file.append(rows, lineage)),
        finish: () => file.finish(),
      }
    },
    async *scan(source, request) {
      for await (const batch of simParquet.scan(await opened(source, disk), request)) yield await process.threaded(async () => batch)
    },
    async fetch(source, positions, fields) {
      const bytes = await opened(source, disk)
      return process.threaded(() => simParquet.fetch(bytes, positions, fields))
    },
  }
}

/** What the system says where a file can't be read tells nothing of the file, as a real thread has it. */
async function opened(source: ParquetSource, disk: LocalDisk): Promise<ParquetSource> {
  if ('bytes' in source) return source
  try {
    return { bytes: await disk.readFile(source.path) }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw new MoonlinkError('invalid', 'PARQUET_FILE_NOT_FOUND', String(error))
    throw new MoonlinkError('retry', 'STORE_UNAVAILABLE', String(error))
  }
}

/** As moving it to another thread would; memory that threads share stays. */
function detach({ children, ...own }: Column): void {
  for (const part of Object.values(own)) {
    if (!ArrayBuffer.isView(part) || !(part.buffer instanceof ArrayBuffer)) continue
    if (part.buffer.byteLength > 0 && !isMarkedAsUntransferable(part.buffer)) structuredClone(null, { transfer: [part.buffer] })
  }
  for (const child of children) detach(child)
}

function bytesOf(source: ParquetSource): Uint8Array {
  if ('bytes' in source) return source.bytes
  throw new Error('a file on a simulated disk is read first')
}
