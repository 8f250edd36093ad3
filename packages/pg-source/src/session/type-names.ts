import pg from 'pg'
import type { RelationShape, ShapeColumn, ShapeType } from './relation-shape.ts'

/** The columns of a table whose types are `types` by now, each with the name that its type has now, as `format_type` writes it where no schema is searched. */
export function namedByTypes({ columns, types: before }: RelationShape, types: readonly ShapeType[]): ShapeColumn[] {
  return columns.map((column) => {
    const [then, now] = [before, types].map((list) => namedType(column, list))
    if (then === undefined || now === undefined || (then.name === now.name && then.schema === now.schema)) return column
    // What follows a type's name: its modifier, and that it is an array of it.
    const [rest] = /(\([^()]*\))?(\[\])?$/.exec(column.typeName)!
    return { ...column, typeName: `${quoted(now.schema)}.${quoted(now.name)}${rest}` }
  })
}

/** The type that names a column's: of an array, that of its elements. */
function namedType({ typeOid }: ShapeColumn, types: readonly ShapeType[]): ShapeType | undefined {
  const type = types.find(({ oid }) => oid === typeOid)
  return type?.elementOid ? types.find(({ oid }) => oid === type.elementOid) : type
}

const quoted = (name: string) => (/^[a-z_][a-z0-9_$]*$/.test(name) ? name : pg.escapeIdentifier(name))
