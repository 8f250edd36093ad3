import { BatchBuilder, formatTableName, MoonlinkError, type ColumnBatch, type ColumnBuilder, type TableName } from '@moonlink/core'
import { BadValueError, runOf, TextBeside, type DecodeRun, type DecodeValue, type MappedColumn } from '../types/index.ts'
import { int32At } from '../types/wire.ts'
import { describeKeyValue } from './key-text.ts'

export interface CopyRowsOptions {
  readonly table: TableName
  /** The columns in the order of the COPY command, each in its `copyForm`; their fields are the batches' fields. */
  readonly columns: readonly MappedColumn[]
  /** Names of those that name a row, for messages. */
  readonly keyNames?: readonly string[]
  /** Rows that room is made for at once; default 64. */
  readonly capacityRows?: number
}

/** Rows that were decoded. Their memory can be seen by other threads, and is used again once they are released. */
export interface DecodedRows {
  readonly rows: ColumnBatch
  release(): void
}

/** What a column of the copy becomes. */
interface CopyColumn {
  readonly mapped: MappedColumn
  readonly decode: DecodeValue
  readonly run: DecodeRun
  readonly index: number
  readonly beside: TextBeside | null
}

/** What `note` returns instead of the end of a row. */
export const INCOMPLETE = -1
export const TRAILER = -2

/** Rows are decoded so many at a time, fewer where there are very many columns. */
const MAX_NOTED = 2048
const MAX_CELLS = 1 << 17
const NO_BYTES = new Uint8Array(0)

/**
 * The rows of a binary COPY. Rows are noted as they come, and decoded together, one column after the other: a loop a column is several times as
 * fast as a call a value.
 */
export class CopyRows {
  private readonly options: CopyRowsOptions
  private readonly columns: readonly CopyColumn[]
  private readonly keyNames: readonly string[]
  readonly tableName: string
  private builder: BatchBuilder
  private readonly free: BatchBuilder[] = []
  /** Rows in the builder. */
  private decoded = 0
  /** Rows that wait; they lie in `source`. */
  private noted = 0
  private source: Uint8Array = NO_BYTES
  private view: DataView = new DataView(NO_BYTES.buffer)
  private readonly capacity: number
  /** For each column, where the cells of the waiting rows start and end; an end of -1 is null. */
  private readonly cells: Int32Array
  private readonly starts: Int32Array
  /** Bytes of the stream that the rows came in. */
  bytes = 0

  constructor(options: CopyRowsOptions) {
    this.options = options
    let index = 0
    this.columns = options.columns.map((mapped) => {
      const { unfit, textField, decoder, textDecoder, copyForm } = mapped
      const beside = textField && unfit ? new TextBeside(decoder, textDecoder, unfit.counter) : null
      const decode = (beside ?? decoder)[copyForm]
      const column = { mapped, decode, run: runOf(decode), index, beside }
      index += textField ? 2 : 1
      return column
    })
    this.keyNames = options.keyNames ?? []
    this.tableName = formatTableName(options.table)
    this.capacity = Math.max(16, Math.min(MAX_NOTED, Math.floor(MAX_CELLS / Math.max(1, this.columns.length))))
    this.cells = new Int32Array(this.capacity * 2 * this.columns.length)
    this.starts = new Int32Array(this.capacity)
    this.builder = this.newBuilder()
  }

  get length(): number {
    return this.decoded + this.noted
  }

  /**
   * Notes the row at `at`; returns where it ends, `INCOMPLETE` where that is not before `end`, or `TRAILER` where the stream ends instead.
   * `source` has to stay as it is until the next `flush`, or the next row in other memory.
   */
  note(source: Uint8Array, at: number, end: number): number {
    if (this.source !== source) {
      this.flush()
      this.source = source
      this.view = new DataView(source.buffer, source.byteOffset, source.byteLength)
    }
    if (end - at < 2) return INCOMPLETE
    const { cells, view } = this
    const count = view.getInt16(at)
    if (count === -1) return TRAILER
    if (count !== this.columns.length) this.malformed(`a row has ${count} columns instead of ${this.columns.length}`)
    const stride = this.capacity * 2
    let next = at + 2
    for (let index = 0, cell = this.noted * 2; index < count; index++, cell += stride) {
      if (end - next < 4) return INCOMPLETE
      const size = view.getInt32(next)
      next += 4
      cells[cell] = next
      if (size >= 0) {
        next += size
        if (next > end) return INCOMPLETE
        cells[cell + 1] = next
      } else {
        if (size !== -1) this.malformed(`a value has ${size} bytes`)
        cells[cell + 1] = -1
      }
    }
    this.bytes += next - at
    this.starts[this.noted++] = at
    if (this.noted === this.capacity) this.flush()
    return next
  }

  /** Decodes the rows that wait. */
  flush(): void {
    const { noted, builder, source } = this
    if (noted === 0) return
    this.noted = 0
    try {
      this.columns.forEach((column, index) => this.decodeColumn(column, index * this.capacity * 2, noted))
    } catch (error) {
      // The first row that fails is to be named, and those before it count.
      builder.truncate(this.decoded)
      for (let row = 0; row < noted; row++) this.appendRow(source, this.starts[row])
      throw error
    }
    this.decoded += noted
  }

  /** The first `maxRows` of the rows so far, or null where there are none. */
  take(maxRows: number): DecodedRows | null {
    this.flush()
    if (this.decoded === 0) return null
    const { builder } = this
    this.builder = this.free.pop() ?? this.newBuilder()
    const left = Math.max(0, this.decoded - maxRows)
    if (left > 0) {
      this.builder.appendRange(builder.view(), maxRows, this.decoded)
      builder.truncate(maxRows)
    }
    this.bytes = Math.round((this.bytes * left) / this.decoded)
    this.decoded = left
    const release = () => {
      builder.clear()
      this.free.push(builder)
    }
    return { rows: builder.view(), release }
  }

  /** Throws what is wrong with the stream behind the rows so far, unless one of those is wrong itself. */
  malformed(what: string): never {
    this.flush()
    throw new MoonlinkError('corrupt', 'COPY_MALFORMED', `the binary copy of ${this.tableName} is malformed: ${what}`, {
      context: { table: this.tableName },
    })
  }

  private newBuilder(): BatchBuilder {
    const fields = this.options.columns.flatMap(({ field, textField }) => (textField ? [field, textField] : [field]))
    return new BatchBuilder(fields, this.options.capacityRows, { shared: true })
  }

  private decodeColumn(column: CopyColumn, at: number, count: number): void {
    const { source, cells } = this
    const builder = this.bind(column)
    for (let done = 0; done < count;) {
      done += column.run(source, cells, at + 2 * done, count - done, builder)
      if (done === count) return
      const cell = at + 2 * done++
      if (cells[cell + 1] < 0) this.appendNull(column, builder)
      else column.decode(source, cells[cell], cells[cell + 1], builder)
    }
  }

  private bind(column: CopyColumn): ColumnBuilder {
    const { builders } = this.builder
    if (column.beside !== null) column.beside.beside = builders[column.index + 1]
    return builders[column.index]
  }

  private appendNull({ mapped, beside }: CopyColumn, builder: ColumnBuilder): void {
    if (mapped.field.required) throw new BadValueError('null', 'and is mirrored as a column without nulls')
    builder.appendNull()
    beside?.beside!.appendNull()
  }

  /** Appends one row value by value, so that an error can name it. */
  private appendRow(source: Uint8Array, start: number): void {
    let at = start + 2
    for (const column of this.columns) {
      const builder = this.bind(column)
      const size = int32At(source, at)
      at += 4
      try {
        if (size < 0) this.appendNull(column, builder)
        else column.decode(source, at, at + size, builder)
      } catch (error) {
        this.builder.truncate(this.decoded)
        throw error instanceof BadValueError ? error.at(this.tableName, column.mapped.name, this.keyText(source, start)) : error
      }
      at += Math.max(size, 0)
    }
    this.decoded++
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
}
