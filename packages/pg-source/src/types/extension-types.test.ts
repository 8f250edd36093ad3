import { ColumnBuilder, valueAt } from '@moonlink/core'
import { expect, it } from 'vitest'
import { mapColumn, type MappedColumn } from './mapping.ts'
import { ownType, sourceColumn } from './source-types.test.support.ts'

/** What pgvector sends and prints (0.8). */
const sent: readonly (readonly [type: string, text: string, binary: string])[] = [
  ['vector', '[1,2.5,-3e-07]', '000300003f80000040200000b4a10fb0'],
  ['vector', '[0.1,1e+10,3.4028235e+38]', '000300003dcccccd501502f97f7fffff'],
  ['halfvec', '[1,0.099975586,-65504,5.9604645e-08,6.097555e-05]', '000500003c002e66fbff000103ff'],
  ['halfvec', '[0,1.5]', '0002000000003e00'],
  ['sparsevec', '{1:1.5,3:2}/5', '00000005000000020000000000000000000000023fc0000040000000'],
  ['sparsevec', '{}/3', '000000030000000000000000'],
  ['sparsevec', '{5:-0.25}/5', '00000005000000010000000000000004be800000'],
]

function map(name: string, as?: string): MappedColumn {
  const policy = { types: {}, onUnfit: 'error' as const, columns: as === undefined ? {} : { 'public.t': { c: { as } } } }
  const column = sourceColumn(ownType({ name, extension: 'vector' }))
  return mapColumn({ schema: 'public', name: 't' }, column, { policy, server: { moneyScale: 2, hasPaddedLsn: false, hasAnyBytes: false } })
}

function decode(column: MappedColumn, form: 'binary' | 'text', bytes: Buffer) {
  const builder = new ColumnBuilder(column.field.type)
  column.decoder[form](bytes, 0, bytes.length, builder)
  return valueAt(builder.view(), 0)
}

it.each(sent)('%s %s', (name, text, binary) => {
  const bytes = Buffer.from(binary, 'hex')
  expect(decode(map(name, 'string'), 'binary', bytes)).toBe(text)
  if (name === 'sparsevec') return
  const expected = (JSON.parse(text) as number[]).map(Math.fround)
  expect(decode(map(name), 'binary', bytes)).toEqual(expected)
  expect(decode(map(name), 'text', Buffer.from(text))).toEqual(expected)
})
