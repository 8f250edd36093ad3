import { promoteField, type Field, type FieldType, type TableSchema, type Value } from '@moonlink/core'
import type { Row, ScriptedTable } from './scripted-table.ts'

/** Changes of shape that a source may make, as a simulation asks for them. `at` picks a column, a type or a key. */
export type Reshape = { readonly kind: 'add column' | 'drop column' | 'rename column' | 'widen column' | 'change key'; readonly at: number }

const STEADY_COLUMNS = 3

const ADDED: readonly (readonly [FieldType, Value])[] = [
  [{ kind: 'int' }, 7],
  [{ kind: 'string' }, 'given'],
  [{ kind: 'decimal', precision: 5, scale: 2 }, 125n],
  [{ kind: 'float' }, null],
  [{ kind: 'string' }, null],
]
const KEYS = [[1], [2], [1, 2], []]

/** Makes the change, if the table as it is allows it. The first three columns stay, under whatever name and type. */
export function reshape(table: ScriptedTable, { kind, at }: Reshape, nextId: number): void {
  const { fields, identifierFieldIds } = table.schema
  const extra = fields.length - STEADY_COLUMNS
  const change = (next: Partial<TableSchema>, convert: (row: Row) => Row = (row) => row) =>
    table.reshape({ ...table.schema, ...next }, convert)
  switch (kind) {
    case 'add column': {
      if (extra > 3) return
      const [type, value] = ADDED[at % ADDED.length]
      // A dropped name may come back.
      const free = ['a', 'b', 'c', 'd', 'e'].find((name) => !fields.some((field) => field.name === name))!
      const added: Field = { id: nextId, name: free, type, required: value !== null, ...(value === null ? {} : { initialDefault: value }) }
      return change({ fields: [...fields, added] }, (row) => [...row, value])
    }
    case 'drop column': {
      if (extra === 0) return
      const dropped = STEADY_COLUMNS + (at % extra)
      return change({ fields: fields.toSpliced(dropped, 1) }, (row) => row.toSpliced(dropped, 1))
    }
    case 'rename column': {
      const index = at % fields.length
      return change({ fields: fields.with(index, { ...fields[index], name: `${fields[index].name[0]}${nextId}` }) })
    }
    case 'widen column': {
      const index = at % fields.length
      const wider = wideType(fields[index].type)
      if (wider === null) return
      return change({ fields: fields.with(index, promoteField(fields[index], wider)) }, (row) =>
        row.with(index, widened(wider, row[index])),
      )
    }
    case 'change key': {
      const key = KEYS[at % KEYS.length]
      if (key.join() === identifierFieldIds.join()) return
      const keys = table.rows.map((row) => JSON.stringify(key.map((id) => String(row[id - 1]))))
      if (key.length > 0 && new Set(keys).size < keys.length) return
      return change({ identifierFieldIds: key })
    }
  }
}

function wideType(type: FieldType): FieldType | null {
  if (type.kind === 'int') return { kind: 'long' }
  if (type.kind === 'float') return { kind: 'double' }
  return type.kind === 'decimal' && type.precision < 38 ? { ...type, precision: 38 } : null
}

function widened(type: FieldType, value: Value): Value {
  return type.kind === 'long' && value !== null ? BigInt(value as number) : value
}

/** Some value of the type that follows from the text. */
export function valueOf(type: FieldType, text: string): Value {
  if (text.length % 5 === 0) return null
  switch (type.kind) {
    case 'int':
    case 'float':
    case 'double':
      return text.length
    case 'long':
    case 'decimal':
      return BigInt(text.length)
    default:
      return text
  }
}
