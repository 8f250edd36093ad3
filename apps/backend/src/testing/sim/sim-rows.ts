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

/** How many columns a table begins with: a number, which identifies its rows where anything does, and a text. */
const FIRST_FIELDS = 2

/** Where tables of one name come and go, and their columns: every shape there ever was, by number. */
export class SimShapes {
  private readonly shapes: TableShape[] = []
  /** Of each shape, which table has it. */
  private readonly oids: number[] = []
  private readonly hasKey: boolean
  private last = -1
  private isGone = false
  private nextFieldId = 1

  constructor(hasKey: boolean) {
    this.hasKey = hasKey
    this.create()
  }

  /** The one that the table has; null where there is no table. */
  get current(): number | null {
    return this.isGone ? null : this.last
  }

  at(version: number): TableShape {
    return this.shapes[version]
  }

  /** Which of the tables of that name has a shape. */
  oidOf(version: number): number {
    return this.oids[version]
  }

  /** The table has that one again, or there is none; those after it are nobody's any more. */
  comeBackTo(version: number | null): void {
    this.isGone = version === null
    if (version !== null) this.last = version
  }

  drop(): void {
    this.isGone = true
  }

  /** Another table of that name, with fields of its own. */
  create(): void {
    const id = this.nextFieldId
    const fields = [
      { id, name: 'id', type: { kind: 'long' }, required: true },
      { id: id + 1, name: 'text', type: { kind: 'string' }, required: false },
    ] as const
    this.nextFieldId += FIRST_FIELDS
    this.isGone = false
    this.push({ fields, identifierFieldIds: this.hasKey ? [id] : [] }, (this.oids.at(-1) ?? 0) + 1)
  }

  /** By what a mirror keeps of it. */
  ofState(sourceState: string | null): TableShape | null {
    return sourceState === null ? null : (this.shapes[Number(sourceState)] ?? null)
  }

  /** Of text; of JSON, as variants, some of those without a default. */
  addColumn(initialDefault: string | null): void {
    const { schema } = this.shapes[this.last]
    const id = this.nextFieldId++
    const kind = initialDefault === null && id % 2 === 0 ? 'variant' : 'string'
    const field = {
      id,
      name: `c${id}`,
      type: { kind } as const,
      required: false,
      ...(initialDefault === null ? {} : { initialDefault }),
    }
    this.alter({ ...schema, fields: [...schema.fields, field] })
  }

  /** Drops one of those that were added; false where there is none. */
  dropColumn(which: number): boolean {
    const { schema } = this.shapes[this.last]
    const added = schema.fields.slice(FIRST_FIELDS)
    if (added.length === 0) return false
    const { id } = added[which % added.length]
    this.alter({ ...schema, fields: schema.fields.filter((field) => field.id !== id) })
    return true
  }

  private alter(schema: TableSchema): void {
    this.push(schema, this.oids[this.last])
  }

  private push(schema: TableSchema, oid: number): void {
    this.shapes.push({ schema, sourceState: String(this.shapes.length) })
    this.oids.push(oid)
    this.last = this.shapes.length - 1
  }
}

/** Ids of the fields that every table has. */
export function fieldIdsOf({ fields }: TableSchema): { readonly key: number; readonly text: number } {
  return { key: fields[0].id, text: fields[1].id }
}

export function batchOf(schema: TableSchema, rows: readonly SimRow[]): ColumnBatch {
  const builder = new BatchBuilder(schema.fields)
  for (const row of rows) appendRow(builder, row)
  return builder.view()
}

export function appendRow(builder: BatchBuilder, row: SimRow): void {
  for (const [index, field] of builder.fields.entries()) {
    const value = valueOf(row, field)
    appendValue(builder.builders[index], field.type.kind === 'long' ? BigInt(value as number) : value)
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
