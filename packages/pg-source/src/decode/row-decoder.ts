import { assert, ChangeOp, formatTableName, type ColumnBuilder, type Field } from '@moonlink/core'
import { TextBeside, type BadValueError, type DecodeValue, type MappedColumn } from '../types/index.ts'
import { int16At, int32At } from '../types/wire.ts'
import { describeKeyValue } from './key-text.ts'
import { malformedMessage } from './message-reader.ts'
import type { MirroredTable, Relation } from './mirrored-table.ts'
import { identifierNames } from './relation.ts'
import type { ChangeBuffers, TableChanges } from './table-changes.ts'

const NULL = 0x6e
const UNCHANGED = 0x75
const TEXT = 0x74
const BINARY = 0x62
const OLD_KEY = 0x4b
const OLD_ROW = 0x4f
const NEW_ROW = 0x4e

/** A row that can't be mirrored although every byte of it is right. */
export class RowRefusal extends Error {
  readonly kind: 'schema' | 'unmirrorable'
  readonly code: string

  constructor(kind: 'schema' | 'unmirrorable', code: string, reason: string) {
    super(reason)
    this.kind = kind
    this.code = code
  }
}

/** What a column of the wire becomes; chosen once, when its Relation message comes. */
class ColumnPlan {
  readonly name: string
  readonly mapped: MappedColumn | null
  readonly binary: DecodeValue
  readonly text: DecodeValue
  readonly required: boolean
  readonly isIdentifier: boolean
  /** Index among the fields of rows and of old rows, -1 where the column is not there. */
  readonly rowIndex: number
  readonly oldIndex: number
  /** Set where the text of values that do not fit goes to a second field, which follows this one's. */
  readonly beside: TextBeside | null
  rowBuilder: ColumnBuilder | null = null
  oldBuilder: ColumnBuilder | null = null

  constructor(name: string, mapped: MappedColumn | null, rowIndex: number, oldIndex: number, isIdentifier: boolean) {
    this.name = name
    this.mapped = mapped
    this.beside = mapped?.textField && mapped.unfit ? new TextBeside(mapped.decoder, mapped.textDecoder, mapped.unfit.counter) : null
    const decoder = this.beside ?? mapped?.decoder
    this.binary = decoder?.binary ?? ignoreValue
    this.text = decoder?.text ?? ignoreValue
    this.required = mapped?.field.required ?? false
    this.isIdentifier = isIdentifier
    this.rowIndex = rowIndex
    this.oldIndex = oldIndex
  }
}

function ignoreValue(): void {}

/** The fields of `ChangeBatch.old`: the identifier in key order, or everything where there is none. */
export function oldFields(mirrored: MirroredTable): readonly Field[] {
  const { fields, identifierFieldIds } = mirrored.schema
  if (identifierFieldIds.length === 0) return fields
  return identifierFieldIds.map((id) => {
    const field = fields.find((candidate) => candidate.id === id)
    assert(field, 'an identifier field is a field of the schema', { id })
    return field
  })
}

/** Appends the tuples of one relation to its table's changes. */
export class RowDecoder {
  private readonly columns: readonly ColumnPlan[]
  private readonly besides: readonly ColumnPlan[]
  private readonly changes: TableChanges
  private readonly hasIdentifier: boolean
  private readonly tableName: string
  /** The buffers that the plans' builders belong to. */
  private bound: ChangeBuffers | null = null
  /** Cells that the last row did not bring. */
  unchangedInRow = 0
  private isAppendingOld = false
  /** Kind, start and end of each cell of an old tuple and of the new one beside it. */
  private readonly oldCells: Int32Array
  private readonly newCells: Int32Array
  private oldKind = 0
  private tupleAt = 0

  constructor(relation: Relation, mirrored: MirroredTable, changes: TableChanges) {
    this.changes = changes
    this.tableName = formatTableName(mirrored.table)
    const identifiers = identifierNames(mirrored)
    this.hasIdentifier = identifiers.length > 0
    const old = oldFields(mirrored)
    this.columns = relation.columns.map(({ name }) => {
      const mapped = mirrored.columns.find((column) => column.name === name) ?? null
      return new ColumnPlan(
        name,
        mapped,
        mirrored.schema.fields.findIndex((field) => field.id === mapped?.field.id),
        old.findIndex((field) => field.id === mapped?.field.id),
        identifiers.includes(name),
      )
    })
    this.besides = this.columns.filter((column) => column.beside !== null)
    this.oldCells = new Int32Array(relation.columns.length * 3)
    this.newCells = new Int32Array(relation.columns.length * 3)
  }

  /** `at` points behind the relation's oid; so in `update` and `delete`. */
  insert(source: Uint8Array, at: number, end: number): void {
    if (source[at] !== NEW_ROW) malformedMessage('an Insert without a new row')
    const buffers = this.bind()
    if (this.appendTuple(source, at + 1, end, buffers) !== end) malformedMessage('an Insert of the wrong length')
    if (this.unchangedInRow > 0) {
      throw new RowRefusal(
        'unmirrorable',
        'TOAST_VALUE_MISSING',
        `the source sent a row without a large value that it did not change${this.describeKey(source)}; it came into the publication's row filter by an update. Run ALTER TABLE ${this.tableName} REPLICA IDENTITY FULL, then moonlink tables resync ${this.tableName}`,
      )
    }
    buffers.complete(ChangeOp.insert, 1, 0)
  }

  update(source: Uint8Array, at: number, end: number): void {
    const buffers = this.bind()
    const tag = source[at]
    if (tag === NEW_ROW) {
      if (this.appendTuple(source, at + 1, end, buffers) !== end) malformedMessage('an Update of the wrong length')
      this.checkIdentity(source, buffers)
      buffers.complete(ChangeOp.update, 1, 0)
      return
    }
    if (tag !== OLD_KEY && tag !== OLD_ROW) malformedMessage('an Update without a new row')
    const next = this.scanTuple(source, at + 1, end, this.oldCells)
    if (source[next] !== NEW_ROW) malformedMessage('an Update without a new row')
    if (this.scanTuple(source, next + 1, end, this.newCells) !== end) malformedMessage('an Update of the wrong length')
    this.oldKind = tag
    this.appendCells(source, buffers)
    if (this.hasIdentifier && this.isKeyUnchanged(source)) return buffers.complete(ChangeOp.update, 1, 0)
    this.appendOld(source)
    buffers.complete(ChangeOp.updateOld, 1, 1)
  }

  delete(source: Uint8Array, at: number, end: number): void {
    this.bind()
    const tag = source[at]
    if (tag !== OLD_KEY && tag !== OLD_ROW) malformedMessage('a Delete without an old row')
    if (this.scanTuple(source, at + 1, end, this.oldCells) !== end) malformedMessage('a Delete of the wrong length')
    this.oldKind = tag
    this.appendOld(source)
    this.changes.current.complete(ChangeOp.delete, 0, 1)
  }

  /** Names the place of a value that an append of this row refused. Call before `undo`. */
  locate(error: BadValueError, source: Uint8Array): BadValueError {
    const { rowCount, oldCount } = this.changes.current
    // Values are appended in the order of the wire, so the first column that lacks one is the one that was refused.
    const column = this.columns.find(({ rowBuilder, oldBuilder }) =>
      this.isAppendingOld ? oldBuilder?.length === oldCount : rowBuilder?.length === rowCount,
    )
    return error.at(this.tableName, column?.name ?? '?', this.keyText(source))
  }

  private bind(): ChangeBuffers {
    const { current } = this.changes
    if (this.bound !== current) {
      for (const column of this.columns) {
        column.rowBuilder = column.rowIndex < 0 ? null : current.rows.builders[column.rowIndex]
        column.oldBuilder = column.oldIndex < 0 ? null : current.old.builders[column.oldIndex]
      }
      this.bound = current
    }
    for (const { beside, rowIndex } of this.besides) beside!.beside = current.rows.builders[rowIndex + 1]
    this.unchangedInRow = 0
    this.isAppendingOld = false
    return current
  }

  /** The hot loop: cells go from the wire into their builders. Returns where the tuple ends. */
  private appendTuple(source: Uint8Array, start: number, end: number, buffers: ChangeBuffers): number {
    const { columns } = this
    this.tupleAt = start
    let at = this.skipCount(source, start, end)
    for (let index = 0; index < columns.length; index++) {
      const column = columns[index]
      if (at >= end) malformedMessage('a row is cut off')
      const kind = source[at++]
      if (kind === BINARY || kind === TEXT) {
        if (end - at < 4) malformedMessage('a row is cut off')
        const size = int32At(source, at)
        at += 4
        if (size < 0 || size > end - at) malformedMessage(`a value of ${size} bytes`)
        if (column.rowBuilder !== null) {
          if (kind === BINARY) column.binary(source, at, at + size, column.rowBuilder)
          else column.text(source, at, at + size, column.rowBuilder)
        }
        at += size
      } else if (kind === NULL) this.appendNull(column)
      else if (kind === UNCHANGED) this.appendUnchanged(column, buffers)
      else malformedMessage(`a cell of kind ${kind}`)
    }
    return at
  }

  /** Notes where the cells of a tuple lie, and returns where it ends. */
  private scanTuple(source: Uint8Array, start: number, end: number, cells: Int32Array): number {
    this.tupleAt = start
    let at = this.skipCount(source, start, end)
    for (let cell = 0; cell < cells.length; cell += 3) {
      if (at >= end) malformedMessage('a row is cut off')
      const kind = source[at++]
      cells[cell] = kind
      if (kind === BINARY || kind === TEXT) {
        if (end - at < 4) malformedMessage('a row is cut off')
        const size = int32At(source, at)
        at += 4
        if (size < 0 || size > end - at) malformedMessage(`a value of ${size} bytes`)
        cells[cell + 1] = at
        cells[cell + 2] = at += size
      } else if (kind !== NULL && kind !== UNCHANGED) malformedMessage(`a cell of kind ${kind}`)
    }
    return at
  }

  private skipCount(source: Uint8Array, at: number, end: number): number {
    if (end - at < 2) malformedMessage('a row is cut off')
    const count = int16At(source, at)
    if (count !== this.columns.length) malformedMessage(`a row of ${count} columns in ${this.tableName}, which has ${this.columns.length}`)
    return at + 2
  }

  /** Appends the new tuple; cells that did not change come from the old tuple where that has them. */
  private appendCells(source: Uint8Array, buffers: ChangeBuffers): void {
    const { columns, newCells, oldCells } = this
    for (let index = 0; index < columns.length; index++) {
      const column = columns[index]
      const at = index * 3
      // A key tuple has nulls in place of all columns outside the key.
      const takeOld = newCells[at] === UNCHANGED && (this.oldKind === OLD_ROW || oldCells[at] !== NULL)
      this.appendCell(source, takeOld ? oldCells : newCells, at, column, buffers)
    }
  }

  private appendCell(source: Uint8Array, cells: Int32Array, at: number, column: ColumnPlan, buffers: ChangeBuffers): void {
    const kind = cells[at]
    if (kind === NULL) this.appendNull(column)
    else if (kind === UNCHANGED) this.appendUnchanged(column, buffers)
    else if (column.rowBuilder !== null) {
      const decode = kind === BINARY ? column.binary : column.text
      decode(source, cells[at + 1], cells[at + 2], column.rowBuilder)
    }
  }

  /** Appends what names the old row: its key, or all of it for a table without one. */
  private appendOld(source: Uint8Array): void {
    if (!this.hasIdentifier && this.oldKind !== OLD_ROW) this.refuseIdentity(source)
    this.isAppendingOld = true
    const { columns, oldCells } = this
    // Only a table without a key has such a column among its old fields.
    for (const { beside, oldIndex } of this.besides) if (oldIndex >= 0) beside!.beside = this.changes.current.old.builders[oldIndex + 1]
    for (let index = 0; index < columns.length; index++) {
      const column = columns[index]
      const builder = column.oldBuilder
      if (builder === null) continue
      const at = index * 3
      const kind = oldCells[at]
      if (kind === BINARY) column.binary(source, oldCells[at + 1], oldCells[at + 2], builder)
      else if (kind === TEXT) column.text(source, oldCells[at + 1], oldCells[at + 2], builder)
      else if (kind === NULL && !this.hasIdentifier) {
        builder.appendNull()
        column.beside?.beside!.appendNull()
      } else this.refuseIdentity(source)
    }
  }

  private appendNull(column: ColumnPlan): void {
    if (column.rowBuilder === null) return
    if (column.required) {
      throw new RowRefusal('schema', 'NULL_IN_REQUIRED', `column "${column.name}" allows nulls now, and is mirrored as one that does not`)
    }
    column.rowBuilder.appendNull()
    column.beside?.beside!.appendNull()
  }

  private appendUnchanged(column: ColumnPlan, buffers: ChangeBuffers): void {
    if (column.rowBuilder === null) return
    column.rowBuilder.appendNull()
    buffers.noteUnchanged(column.rowIndex)
    if (column.beside !== null) {
      column.beside.beside!.appendNull()
      buffers.noteUnchanged(column.rowIndex + 1)
    }
    this.unchangedInRow++
  }

  private isKeyUnchanged(source: Uint8Array): boolean {
    const { columns, newCells, oldCells } = this
    for (let index = 0; index < columns.length; index++) {
      if (!columns[index].isIdentifier) continue
      const at = index * 3
      if (newCells[at] === UNCHANGED && oldCells[at] !== NULL) continue
      if (newCells[at] !== oldCells[at] || !sameBytes(source, newCells, oldCells, at)) return false
    }
    return true
  }

  /** Without an old tuple the row is found by the key of the new one, so that must be all there. */
  private checkIdentity(source: Uint8Array, buffers: ChangeBuffers): void {
    if (!this.hasIdentifier) this.refuseIdentity(source)
    if (this.unchangedInRow === 0) return
    for (const column of this.columns) {
      if (column.isIdentifier && buffers.isUnchanged(column.rowIndex)) this.refuseIdentity(source)
    }
  }

  private refuseIdentity(source: Uint8Array): never {
    throw new RowRefusal(
      'unmirrorable',
      'IDENTITY_MISSING',
      `the source does not say which row changed${this.describeKey(source)}; run ALTER TABLE ${this.tableName} REPLICA IDENTITY FULL, or give it a primary key`,
    )
  }

  private describeKey(source: Uint8Array): string {
    const key = this.keyText(source)
    return key === null ? '' : ` (${key})`
  }

  /** `id=5, region=eu`, or null where there is no key. */
  private keyText(source: Uint8Array): string | null {
    if (!this.hasIdentifier) return null
    const cells = new Int32Array(this.columns.length * 3)
    this.scanTuple(source, this.tupleAt, source.length, cells)
    return this.columns
      .map((column, index) => {
        if (!column.isIdentifier || column.mapped === null) return null
        const kind = cells[index * 3]
        const value =
          kind === NULL || kind === UNCHANGED
            ? '?'
            : describeKeyValue(source, cells[index * 3 + 1], cells[index * 3 + 2], kind === TEXT, column.mapped)
        return `${column.name}=${value}`
      })
      .filter((part) => part !== null)
      .join(', ')
  }
}

function sameBytes(source: Uint8Array, a: Int32Array, b: Int32Array, cell: number): boolean {
  const from = a[cell + 1]
  const other = b[cell + 1]
  const size = a[cell + 2] - from
  if (size !== b[cell + 2] - other) return false
  for (let index = 0; index < size; index++) if (source[from + index] !== source[other + index]) return false
  return true
}
