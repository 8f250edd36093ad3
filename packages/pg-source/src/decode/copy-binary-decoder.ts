import { BatchBuilder, formatTableName, MoonlinkError, type ColumnBatch, type TableName } from '@moonlink/core'
import { BadValueError, TextBeside, type MappedColumn } from '../types/index.ts'
import type { DecodeValue } from '../types/index.ts'
import { int16At, int32At } from '../types/wire.ts'
import { describeKeyValue } from './key-text.ts'

/** `PGCOPY\n\377\r\n\0` */
const SIGNATURE = Uint8Array.of(0x50, 0x47, 0x43, 0x4f, 0x50, 0x59, 0x0a, 0xff, 0x0d, 0x0a, 0x00)
const HEADER_BYTES = SIGNATURE.length + 8
const TRAILER = -1
const INCOMPLETE = -1
const NO_BYTES = new Uint8Array(0)

export interface CopyBinaryDecoderOptions {
  readonly table: TableName
  /** The columns in the order of the COPY command, each in its `copyForm`; their fields are the batches' fields. */
  readonly columns: readonly MappedColumn[]
  /** Names of those that name a row, for messages. */
  readonly keyNames?: readonly string[]
}

/** What a column of the copy becomes. */
interface CopyColumn {
  readonly mapped: MappedColumn
  readonly decode: DecodeValue
  readonly index: number
  readonly beside: TextBeside | null
}

/**
 * Decodes the stream of `COPY … TO STDOUT (FORMAT binary)`, cut into chunks anywhere.
 *
 * A chunk's memory may be reused once `feed` returns. `take` gives the rows so far; they are valid until the next `take`. Throws
 * `BadValueError` naming the column for a value that Iceberg cannot hold, `corrupt`/`COPY_MALFORMED` or `corrupt`/`VALUE_MALFORMED`
 * for bytes that are not such a stream; the decoder is of no use afterwards.
 */
export class CopyBinaryDecoder {
  private readonly columns: readonly CopyColumn[]
  private readonly keyNames: readonly string[]
  private readonly tableName: string
  private current: BatchBuilder
  private spare: BatchBuilder
  private rows = 0
  private bytes = 0
  /** The beginning of what a chunk cut off: `carried` bytes of `carry`. */
  private carry: Uint8Array = NO_BYTES
  private carried = 0
  private phase: 'header' | 'rows' | 'done' = 'header'

  constructor(options: CopyBinaryDecoderOptions) {
    let index = 0
    this.columns = options.columns.map((mapped) => {
      const { unfit, textField, decoder, textDecoder, copyForm } = mapped
      const beside = textField && unfit ? new TextBeside(decoder, textDecoder, unfit.counter) : null
      const column = { mapped, decode: (beside ?? decoder)[copyForm], index, beside }
      index += textField ? 2 : 1
      return column
    })
    this.keyNames = options.keyNames ?? []
    this.tableName = formatTableName(options.table)
    const fields = options.columns.flatMap(({ field, textField }) => (textField ? [field, textField] : [field]))
    this.current = new BatchBuilder(fields)
    this.spare = new BatchBuilder(fields)
  }

  /** Rows held for the next `take`. */
  get rowsBuffered(): number {
    return this.rows
  }

  /** Bytes of the stream that the held rows came in. */
  get bytesBuffered(): number {
    return this.bytes
  }

  feed(chunk: Uint8Array): void {
    if (this.carried === 0) return this.keep(chunk, this.decode(chunk, chunk.length))
    this.append(chunk)
    const { carry, carried } = this
    const used = this.decode(carry, carried)
    if (used > 0) carry.copyWithin(0, used, carried)
    this.carried = carried - used
    // One huge row shall not hold its memory until the end.
    if (this.carried === 0 && carry.length > 1 << 20) this.carry = NO_BYTES
  }

  /** States that the stream has ended; throws `corrupt`/`COPY_MALFORMED` if it has not said so itself. */
  finish(): void {
    if (this.phase !== 'done') this.malformed('it ends too early')
  }

  /** The rows so far, or null where there are none. */
  take(): ColumnBatch | null {
    if (this.rows === 0) return null
    const batch = this.current.view()
    const { current, spare } = this
    this.current = spare
    this.spare = current
    this.current.clear()
    this.rows = 0
    this.bytes = 0
    return batch
  }

  /** Decodes what is complete of `source[0 … end)`; returns how many bytes that were. */
  private decode(source: Uint8Array, end: number): number {
    let at = 0
    if (this.phase === 'header') {
      at = this.skipHeader(source, end)
      if (at === 0) return 0
      this.phase = 'rows'
    }
    while (this.phase === 'rows') {
      const next = this.rowEnd(source, at, end)
      if (next === INCOMPLETE) break
      if (this.phase === 'rows') this.appendRow(source, at, next)
      at = next
    }
    if (this.phase === 'done' && at < end) this.malformed('bytes follow its trailer')
    return at
  }

  /** Returns where the header ends, or 0 if it is not complete. */
  private skipHeader(source: Uint8Array, end: number): number {
    for (let index = 0; index < Math.min(end, SIGNATURE.length); index++) {
      if (source[index] !== SIGNATURE[index]) this.malformed('it does not start with the signature of binary COPY')
    }
    if (end < HEADER_BYTES) return 0
    if (int32At(source, SIGNATURE.length) !== 0) this.malformed('its header has flags that Postgres does not set')
    const extension = int32At(source, SIGNATURE.length + 4)
    if (extension < 0) this.malformed('its header has a negative length')
    return HEADER_BYTES + extension <= end ? HEADER_BYTES + extension : 0
  }

  /** Returns where the row at `at` ends, or `INCOMPLETE`. The trailer ends the stream. */
  private rowEnd(source: Uint8Array, at: number, end: number): number {
    if (end - at < 2) return INCOMPLETE
    const count = int16At(source, at)
    at += 2
    if (count === TRAILER) {
      this.phase = 'done'
      return at
    }
    if (count !== this.columns.length) this.malformed(`a row has ${count} columns instead of ${this.columns.length}`)
    for (let index = 0; index < count; index++) {
      if (end - at < 4) return INCOMPLETE
      const size = int32At(source, at)
      if (size < -1) this.malformed(`a value has ${size} bytes`)
      at += size < 0 ? 4 : 4 + size
      if (at > end) return INCOMPLETE
    }
    return at
  }

  private appendRow(source: Uint8Array, start: number, end: number): void {
    const { columns } = this
    const { builders } = this.current
    let at = start + 2
    let index = 0
    try {
      for (; index < columns.length; index++) {
        const column = columns[index]
        const builder = builders[column.index]
        if (column.beside !== null) column.beside.beside = builders[column.index + 1]
        const size = int32At(source, at)
        at += 4
        if (size < 0) {
          if (column.mapped.field.required) throw new BadValueError('null', 'and is mirrored as a column without nulls')
          builder.appendNull()
          column.beside?.beside!.appendNull()
        } else {
          column.decode(source, at, at + size, builder)
          at += size
        }
      }
    } catch (error) {
      this.current.truncate(this.rows)
      throw error instanceof BadValueError ? error.at(this.tableName, columns[index].mapped.name, this.keyText(source, start)) : error
    }
    this.rows++
    this.bytes += end - start
  }

  /** `id=5, region=eu` of the row at `start`; null where there is no key. */
  private keyText(source: Uint8Array, start: number): string | null {
    const values = new Map<string, string>()
    let at = start + 2
    for (const { mapped } of this.columns) {
      const size = int32At(source, at)
      at += 4
      if (this.keyNames.includes(mapped.name) && size >= 0) {
        values.set(mapped.name, describeKeyValue(source, at, at + size, mapped.copyForm === 'text', mapped))
      }
      at += Math.max(size, 0)
    }
    return this.keyNames.length === 0 ? null : this.keyNames.map((name) => `${name}=${values.get(name) ?? '?'}`).join(', ')
  }

  private keep(chunk: Uint8Array, from: number): void {
    if (from < chunk.length) this.append(chunk.subarray(from))
  }

  private append(chunk: Uint8Array): void {
    const needed = this.carried + chunk.length
    if (needed > this.carry.length) {
      const carry = new Uint8Array(Math.max(needed, this.carry.length * 2, 1024))
      carry.set(this.carry.subarray(0, this.carried))
      this.carry = carry
    }
    this.carry.set(chunk, this.carried)
    this.carried = needed
  }

  private malformed(what: string): never {
    throw new MoonlinkError('corrupt', 'COPY_MALFORMED', `the binary copy of ${this.tableName} is malformed: ${what}`, {
      context: { table: this.tableName },
    })
  }
}
