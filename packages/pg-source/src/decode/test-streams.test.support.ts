import { formatTableName, type SourceEvent } from '@moonlink/core'
import type { MirroredTable } from './mirrored-table.ts'
import { StreamDecoder, type StreamDecoderOptions } from './stream-decoder.ts'
import { absent, binary, i32, numeric, relation, text, type Cell, type ColumnSpec } from './reference-encoder.test.support.ts'
import { mirror } from './test-tables.test.support.ts'

export const TYPMOD_10_2 = ((10 << 16) | 2) + 4
export const ordersSpec: ColumnSpec[] = [
  { name: 'id', oid: 23, isKey: true },
  { name: 'note', oid: 25 },
  { name: 'amount', oid: 1700, typmod: TYPMOD_10_2 },
]
export const orders = mirror('orders', ordersSpec)
export const fullSpec = ordersSpec.map((column) => ({ ...column, isKey: true }))
export const linesSpec: ColumnSpec[] = [
  { name: 'a', oid: 23 },
  { name: 'b', oid: 25 },
]
export const lines = mirror('lines', linesSpec)

export function decoderOf(tables: readonly MirroredTable[], options: Partial<StreamDecoderOptions> = {}) {
  const decoder = new StreamDecoder({
    resolve: ({ schema, name }) => tables.find(({ table }) => formatTableName(table) === `${schema}.${name}`) ?? null,
    openTransactionBytes: 0,
    ...options,
  })
  return {
    decoder,
    /** Feeds frames from memory that is overwritten afterwards, as a socket's is. */
    feed(...frames: readonly Buffer[]): SourceEvent[] {
      for (const frame of frames) {
        const shared = Buffer.concat([Buffer.alloc(5, 0xee), frame, Buffer.alloc(5, 0xee)])
        decoder.feed(shared.subarray(5, 5 + frame.length))
        shared.fill(0xdd)
      }
      return decoder.take()
    },
  }
}

export const row = (id: number, note: string | null, cents: bigint): Cell[] => [
  binary(i32(id)),
  note === null ? absent : text(note),
  binary(numeric(cents, 2)),
]
export const key = (id: number): Cell[] => [binary(i32(id)), absent, absent]
export const ordersRelation = relation(5, 'orders', ordersSpec)
