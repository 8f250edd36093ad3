import {
  appendValue,
  BatchBuilder,
  conformBatch,
  valueAt,
  type ColumnBatch,
  type TableName,
  type TableSchema,
  type TableShape,
} from '@moonlink/core'

/** A row by field id; what it lacks holds the field's initial default. */
export type SimRow = Readonly<Record<number, number | string | null>>

export const KEY = 1
export const FIRST_TEXT = 2

/** Where a table's columns come and go: every shape it ever had, by number. */
export class SimShapes {
  private readonly shapes: TableShape[]
  /** The one that the table has. */
  current = 0
  private nextFieldId = FIRST_TEXT + 1

  constructor(identifierFieldIds: readonly number[]) {
    const fields = [
      { id: KEY, name: 'id', type: { kind: 'long' }, required: true },
      { id: FIRST_TEXT, name: 'text', type: { kind: 'string' }, required: false },
    ] as const
    this.shapes = [{ schema: { fields, identifierFieldIds }, sourceState: '0' }]
  }

  at(version: number): TableShape {
    return this.shapes[version]
  }

  /** The table has that one again; those after it are nobody's any more. */
  comeBackTo(version: number): void {
    this.current = version
  }

  /** By what a mirror keeps of it. */
  ofState(sourceState: string | null): TableShape | null {
    return sourceState === null ? null : (this.shapes[Number(sourceState)] ?? null)
  }

  /** Of text; of JSON, as variants, some of those without a default. */
  addColumn(initialDefault: string | null): void {
    const { schema } = this.shapes[this.current]
    const id = this.nextFieldId++
    const kind = initialDefault === null && id % 2 === 0 ? 'variant' : 'string'
    const field = {
      id,
      name: `c${id}`,
      type: { kind } as const,
      required: false,
      ...(initialDefault === null ? {} : { initialDefault }),
    }
    this.push({ ...schema, fields: [...schema.fields, field] })
  }

  /** Drops one of those that were added; false where there is none. */
  dropColumn(which: number): boolean {
    const { schema } = this.shapes[this.current]
    const added = schema.fields.filter(({ id }) => id > FIRST_TEXT)
    if (added.length === 0) return false
    const { id } = added[which % added.length]
    this.push({ ...schema, fields: schema.fields.filter((field) => field.id !== id) })
    return true
  }

  private push(schema: TableSchema): void {
    this.shapes.push({ schema, sourceState: String(this.shapes.length) })
    this.current = this.shapes.length - 1
  }
}

export function batchOf(schema: TableSchema, rows: readonly SimRow[]): ColumnBatch {
  const builder = new BatchBuilder(schema.fields)
  for (const row of rows) appendRow(builder, row)
  return builder.view()
}

export function appendRow(builder: BatchBuilder, row: SimRow): void {
  for (const [index, field] of builder.fields.entries()) {
    const value = valueOf(row, field)
    appendValue(builder.builders[index], field.id === KEY ? BigInt(value as number) : value)
  }
}

function valueOf(row: SimRow, field: TableSchema['fields'][number]): number | string | null {
  const value = row[field.id]
  return value === undefined ? ((field.initialDefault as string | undefined) ?? null) : value
}

/** A row as its table shows it. */
export function rowText(row: SimRow, schema: TableSchema): string {
  return schema.fields.map((field) => String(valueOf(row, field))).join(' ')
}

/** The rows of a batch, conformed to a schema, but for those dead. */
export function textsOf(batch: ColumnBatch, count: number, dead: ReadonlySet<number>, schema: TableSchema): string[] {
  const { columns } = conformBatch(batch, schema.fields)
  const texts: string[] = []
  for (let row = 0; row < count; row++) if (!dead.has(row)) texts.push(columns.map((column) => String(valueAt(column, row))).join(' '))
  return texts
}

export function tableNameOf(name: string): TableName {
  const [schema, table] = name.split('.') as [string, string]
  return { schema, name: table }
}
