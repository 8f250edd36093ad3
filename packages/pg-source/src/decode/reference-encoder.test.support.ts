/** A second, plain implementation of the wire formats, for tests: what it writes, the decoders must read. */

export type Cell = { readonly kind: 'n' | 'u' } | { readonly kind: 't' | 'b'; readonly bytes: Buffer }

export interface ColumnSpec {
  readonly name: string
  readonly oid: number
  readonly typmod?: number
  readonly isKey?: boolean
}

export const absent: Cell = { kind: 'n' }
export const unchanged: Cell = { kind: 'u' }
export const text = (value: string): Cell => ({ kind: 't', bytes: Buffer.from(value) })
export const binary = (bytes: Buffer): Cell => ({ kind: 'b', bytes })

export function i16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}

export function i32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

export function i64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(value)
  return bytes
}

export function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeFloatBE(value)
  return bytes
}

export function f64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeDoubleBE(value)
  return bytes
}

const cstring = (value: string): Buffer => Buffer.concat([Buffer.from(value), Buffer.of(0)])
const EPOCH_2000_MS = 946_684_800_000

/** The binary form of numeric, from its decimal digits: `unscaled × 10^-scale`. */
export function numeric(unscaled: bigint, scale: number): Buffer {
  const digits = (unscaled < 0n ? -unscaled : unscaled).toString()
  const fractionWidth = Math.ceil(scale / 4) * 4
  const padded = digits.padEnd(digits.length + fractionWidth - scale, '0').padStart(fractionWidth + 1, '0')
  const whole = padded.slice(0, padded.length - fractionWidth)
  const all = whole.padStart(Math.ceil(whole.length / 4) * 4, '0') + padded.slice(padded.length - fractionWidth)
  let groups = (all.match(/.{4}/g) ?? []).map(Number)
  let weight = Math.ceil(whole.length / 4) - 1
  while (groups[0] === 0) {
    groups = groups.slice(1)
    weight--
  }
  while (groups.at(-1) === 0) groups = groups.slice(0, -1)
  if (groups.length === 0) weight = 0
  return Buffer.concat([i16(groups.length), i16(weight), i16(unscaled < 0n ? 0x4000 : 0), i16(scale), ...groups.map((group) => i16(group))])
}

export function array(elementOid: number, elements: readonly (Buffer | null)[]): Buffer {
  const hasNull = elements.includes(null) ? 1 : 0
  const body = elements.map((element) => (element === null ? i32(-1) : Buffer.concat([i32(element.length), element])))
  if (elements.length === 0) return Buffer.concat([i32(0), i32(0), i32(elementOid)])
  return Buffer.concat([i32(1), i32(hasNull), i32(elementOid), i32(elements.length), i32(1), ...body])
}

export function wal(body: Buffer): Buffer {
  return Buffer.concat([Buffer.from('w'), i64(0n), i64(0n), i64(0n), body])
}

export function keepalive(walEnd: bigint, reply = false): Buffer {
  return Buffer.concat([Buffer.from('k'), i64(walEnd), i64(0n), Buffer.of(reply ? 1 : 0)])
}

export function begin(commitLsn: bigint): Buffer {
  return wal(Buffer.concat([Buffer.from('B'), i64(commitLsn), i64(0n), i32(7)]))
}

export function commit(commitLsn: bigint, endLsn: bigint, timeMs = EPOCH_2000_MS): Buffer {
  return wal(Buffer.concat([Buffer.from('C'), Buffer.of(0), i64(commitLsn), i64(endLsn), i64(BigInt(timeMs - EPOCH_2000_MS) * 1000n)]))
}

const stamp = (timeMs: number) => i64(BigInt(timeMs - EPOCH_2000_MS) * 1000n)

/** A message of a transaction in progress: the plain one with its (sub)transaction's id. */
export function within(xid: number, message: Buffer): Buffer {
  return Buffer.concat([message.subarray(0, 26), i32(xid), message.subarray(26)])
}

export function streamStart(xid: number, isFirst: boolean): Buffer {
  return wal(Buffer.concat([Buffer.from('S'), i32(xid), Buffer.of(isFirst ? 1 : 0)]))
}

export function streamStop(): Buffer {
  return wal(Buffer.from('E'))
}

export function streamCommit(xid: number, commitLsn: bigint, endLsn: bigint, timeMs = EPOCH_2000_MS): Buffer {
  return wal(Buffer.concat([Buffer.from('c'), i32(xid), Buffer.of(0), i64(commitLsn), i64(endLsn), stamp(timeMs)]))
}

export function streamAbort(xid: number, subxid: number, isParallel = false): Buffer {
  const where = isParallel ? [i64(1n), i64(2n)] : []
  return wal(Buffer.concat([Buffer.from('A'), i32(xid), i32(subxid), ...where]))
}

export function beginPrepare(xid: number, gid: string, prepareLsn: bigint): Buffer {
  return wal(Buffer.concat([Buffer.from('b'), i64(prepareLsn), i64(prepareLsn + 1n), i64(0n), i32(xid), cstring(gid)]))
}

export function prepare(xid: number, gid: string, prepareLsn: bigint, isStreamed = false): Buffer {
  const type = Buffer.from(isStreamed ? 'p' : 'P')
  return wal(Buffer.concat([type, Buffer.of(0), i64(prepareLsn), i64(prepareLsn + 1n), i64(0n), i32(xid), cstring(gid)]))
}

export function commitPrepared(xid: number, gid: string, commitLsn: bigint, endLsn: bigint): Buffer {
  return wal(Buffer.concat([Buffer.from('K'), Buffer.of(0), i64(commitLsn), i64(endLsn), i64(0n), i32(xid), cstring(gid)]))
}

export function rollbackPrepared(xid: number, gid: string): Buffer {
  return wal(Buffer.concat([Buffer.from('r'), Buffer.of(0), i64(1n), i64(2n), i64(0n), i64(0n), i32(xid), cstring(gid)]))
}

export function relation(oid: number, name: string, columns: readonly ColumnSpec[], identity = 'd'): Buffer {
  const described = columns.map((column) =>
    Buffer.concat([Buffer.of(column.isKey ? 1 : 0), cstring(column.name), i32(column.oid), i32(column.typmod ?? -1)]),
  )
  return wal(
    Buffer.concat([Buffer.from('R'), i32(oid), cstring('public'), cstring(name), Buffer.from(identity), i16(columns.length), ...described]),
  )
}

function tuple(cells: readonly Cell[]): Buffer {
  return Buffer.concat([
    i16(cells.length),
    ...cells.map((cell) =>
      'bytes' in cell ? Buffer.concat([Buffer.from(cell.kind), i32(cell.bytes.length), cell.bytes]) : Buffer.from(cell.kind),
    ),
  ])
}

export function insert(oid: number, row: readonly Cell[]): Buffer {
  return wal(Buffer.concat([Buffer.from('I'), i32(oid), Buffer.from('N'), tuple(row)]))
}

export function update(oid: number, row: readonly Cell[], old?: readonly Cell[], oldKind: 'K' | 'O' = 'K'): Buffer {
  const before = old === undefined ? [] : [Buffer.from(oldKind), tuple(old)]
  return wal(Buffer.concat([Buffer.from('U'), i32(oid), ...before, Buffer.from('N'), tuple(row)]))
}

export function remove(oid: number, old: readonly Cell[], oldKind: 'K' | 'O' = 'K'): Buffer {
  return wal(Buffer.concat([Buffer.from('D'), i32(oid), Buffer.from(oldKind), tuple(old)]))
}

export function truncate(...oids: readonly number[]): Buffer {
  return wal(Buffer.concat([Buffer.from('T'), i32(oids.length), Buffer.of(0), ...oids.map(i32)]))
}

const COPY_HEADER = Buffer.concat([Buffer.from('PGCOPY\n'), Buffer.of(0xff, 0x0d, 0x0a, 0x00), i32(0), i32(0)])

export function copyStream(rows: readonly (readonly (Buffer | null)[])[]): Buffer {
  const tuples = rows.map((row) =>
    Buffer.concat([i16(row.length), ...row.map((value) => (value === null ? i32(-1) : Buffer.concat([i32(value.length), value])))]),
  )
  return Buffer.concat([COPY_HEADER, ...tuples, i16(-1)])
}
