import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { formatLsn, formatTableName, type SourceEvent, type Value } from '@moonlink/core'
import type { MirroredTable } from './mirrored-table.ts'
import { mirror, plain } from './test-tables.test.support.ts'

/** Byte streams that servers sent (`tools/capture-vectors.ts`), and what they say. */

export const vectorVersions = [14, 15, 16, 17, 18] as const
const directory = join(import.meta.dirname, '../testing/vectors')
export const vectorPath = (version: number, kind: 'gz' | 'jsonl') => join(directory, `postgres-${version}.${kind}`)

const TYPMOD_10_2 = ((10 << 16) | 2) + 4

/** The tables of the captured session that are mirrored; another one is not. */
export const vectorTables: readonly MirroredTable[] = [
  mirror('keyed', [
    { name: 'id', oid: 23, isKey: true },
    { name: 'note', oid: 25 },
    { name: 'amount', oid: 1700, typmod: TYPMOD_10_2 },
    { name: 'tags', oid: 1009 },
  ]),
  mirror('whole', [
    { name: 'a', oid: 23 },
    { name: 'b', oid: 25 },
  ]),
  mirror('indexed', [
    { name: 'id', oid: 23 },
    { name: 'code', oid: 25, isKey: true },
    { name: 'v', oid: 25 },
  ]),
]

export const vectorTable = ({ name }: { readonly name: string }) => vectorTables.find(({ table }) => table.name === name) ?? null

/** Payloads of one file, which is compressed; each lies behind its length. */
export function vectorFrames(version: number): Buffer[] {
  const bytes = gunzipSync(readFileSync(vectorPath(version, 'gz')))
  const frames: Buffer[] = []
  for (let at = 0; at < bytes.length;) {
    const end = at + 4 + bytes.readUInt32BE(at)
    frames.push(bytes.subarray(at + 4, end))
    at = end
  }
  return frames
}

/** Kinds of messages among the frames: of pgoutput by their letter, and k for a keepalive. */
export function kindsOf(frames: readonly Uint8Array[]): string[] {
  return [...new Set(frames.map((frame) => (frame[0] === 0x6b ? 'k' : String.fromCharCode(frame[25]))))].sort()
}

/** An event in a form that JSON holds, long texts cut short. */
export function reading(event: SourceEvent): unknown {
  if (event.kind === 'batch') {
    const { ops, rows, old, unchanged, endLsns, changeCounts } = plain(event.batch)
    const table = formatTableName(event.batch.table)
    return {
      table,
      ops,
      rows: rows.map(cells),
      old: old.map(cells),
      unchanged,
      ends: endLsns.map(formatLsn),
      changeCounts: [...changeCounts],
    }
  }
  if (event.kind === 'truncate') return { truncate: event.tables.map(formatTableName) }
  return event.kind === 'watermark' ? { watermark: formatLsn(event.lsn) } : { kind: event.kind }
}

const cells = (row: readonly Value[]) => row.map((value) => JSON.stringify(value, short))

function short(_: string, value: unknown): unknown {
  if (typeof value === 'bigint') return String(value)
  return typeof value === 'string' && value.length > 40 ? `${value.slice(0, 8)}… (${value.length})` : value
}
