import type { TextSink } from './text-sink.ts'
import { checkSize, int16At, int32At, malformedValue, uint16At, uint64At } from './wire.ts'

/** Renderers (see `RenderText`) of types without a file of their own. */

export function renderBool(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 1, 'bool')
  sink.byte(source[start] === 0 ? 0x66 : 0x74)
}

export function renderInt2(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 2, 'int2')
  sink.integer(int16At(source, start))
}

export function renderInt4(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 4, 'int4')
  sink.integer(int32At(source, start))
}

export function renderInt8(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 8, 'int8')
  sink.ascii(BigInt.asIntN(64, uint64At(source, start)).toString())
}

/** oid, xid and cid. */
export function renderUint4(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 4, 'oid')
  sink.integer(int32At(source, start) >>> 0)
}

export function renderUint8(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 8, 'xid8')
  sink.ascii(uint64At(source, start).toString())
}

/** `(block,offset)` */
export function renderTid(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 6, 'tid')
  sink.byte(0x28)
  sink.integer(int32At(source, start) >>> 0)
  sink.byte(0x2c)
  sink.integer(uint16At(source, start + 4))
  sink.byte(0x29)
}

/** `"char"` is one byte, printed as Postgres 16 does: nothing for 0, `\ooo` above 127. */
export function renderChar(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 1, '"char"')
  const byte = source[start]
  if (byte === 0) return
  if (byte < 0x80) return sink.byte(byte)
  sink.byte(0x5c)
  sink.byte(0x30 + (byte >> 6))
  sink.byte(0x30 + ((byte >> 3) & 7))
  sink.byte(0x30 + (byte & 7))
}

export function renderBytea(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  sink.ascii('\\x')
  sink.reserve(2 * (end - start))
  for (let at = start; at < end; at++) sink.hex(source[at])
}

export function renderUuid(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 16, 'uuid')
  for (let index = 0; index < 16; index++) {
    if (index === 4 || index === 6 || index === 8 || index === 10) sink.byte(0x2d)
    sink.hex(source[start + index])
  }
}

/** jsonb, jsonpath, ltree and the like: a version byte, then the text. */
export function renderVersioned(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  if (end === start || source[start] !== 1) malformedValue('jsonb', 'not version 1')
  sink.copy(source, start + 1, end)
}

/** bit and varbit: the number of bits, then bytes, highest bit first. */
export function renderBits(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  if (end - start < 4) malformedValue('bit', 'too short')
  const count = int32At(source, start)
  if (count < 0 || end - start - 4 !== (count + 7) >> 3) malformedValue('bit', `${count} bits in ${end - start} bytes`)
  sink.reserve(count)
  for (let bit = 0; bit < count; bit++) sink.byte(0x30 + ((source[start + 4 + (bit >> 3)] >> (7 - (bit & 7))) & 1))
}

/** `16/B374D848`; from Postgres 19 on the second part has eight digits. */
export function renderLsn(padded: boolean) {
  return (source: Uint8Array, start: number, end: number, sink: TextSink): void => {
    checkSize(start, end, 8, 'pg_lsn')
    const part = (at: number) => (int32At(source, at) >>> 0).toString(16).toUpperCase()
    sink.ascii(`${part(start)}/${padded ? part(start + 4).padStart(8, '0') : part(start + 4)}`)
  }
}

/** pg_snapshot and txid_snapshot: `xmin:xmax:xip,xip` */
export function renderSnapshot(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  const count = end - start < 20 ? -1 : int32At(source, start)
  if (end - start !== 20 + 8 * count) malformedValue('pg_snapshot', `${count} transactions in ${end - start} bytes`)
  sink.ascii(`${uint64At(source, start + 4)}:${uint64At(source, start + 12)}:`)
  for (let index = 0; index < count; index++) {
    if (index > 0) sink.byte(0x2c)
    sink.ascii(uint64At(source, start + 20 + 8 * index).toString())
  }
}
