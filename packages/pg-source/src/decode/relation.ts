import { describeType } from '../types/oids.ts'
import { malformedMessage, type MessageReader } from './message-reader.ts'
import type { MirroredTable, Relation, RelationColumn } from './mirrored-table.ts'

const VARCHAR = new Set([1043, 1015])

export function readRelation(reader: MessageReader): Relation {
  const oid = reader.oid()
  const schema = reader.text() || 'pg_catalog'
  const name = reader.text()
  const replicaIdentity = String.fromCharCode(reader.byte())
  if (!'dnfi'.includes(replicaIdentity)) malformedMessage(`replica identity "${replicaIdentity}" of ${schema}.${name}`)
  const count = reader.int16()
  // A column takes at least 10 bytes, so the count is bounded by the bytes that came.
  if (count < 0 || count * 10 > reader.remaining) malformedMessage(`${count} columns of ${schema}.${name}`)
  const columns: RelationColumn[] = []
  for (let index = 0; index < count; index++) {
    const isKey = (reader.byte() & 1) === 1
    columns.push({ isKey, name: reader.text(), typeOid: reader.oid(), typmod: reader.int32() })
  }
  reader.finish('a Relation message')
  return { oid, schema, name, replicaIdentity, columns }
}

/**
 * Says what keeps rows of `relation` from being rows of `mirrored`, or null where they fit. The order of columns is irrelevant, and
 * so is the length of a varchar: neither changes a row.
 */
export function describeMismatch(relation: Relation, mirrored: MirroredTable): string | null {
  if (mirrored.relationOid !== undefined && mirrored.relationOid !== relation.oid)
    return 'the table was dropped or renamed, and another has its name'
  const wire = new Map(relation.columns.map((column) => [column.name, column]))
  if (wire.size !== relation.columns.length) malformedMessage(`${relation.schema}.${relation.name} has two columns of one name`)
  const known = new Set(mirrored.columns.map((column) => column.name))
  const gone = mirrored.columns.filter((column) => !wire.has(column.name))
  const added = relation.columns.filter((column) => !known.has(column.name) && !mirrored.excluded?.has(column.name))
  const [lost] = gone
  const [extra] = added
  if (lost && extra && gone.length === 1 && added.length === 1 && lost.typeOid === extra.typeOid) {
    return `column "${lost.name}" was renamed to "${extra.name}", or dropped and "${extra.name}" added`
  }
  if (lost) return `column "${lost.name}" was dropped or renamed`
  if (extra) return `column "${extra.name}" was added`
  for (const column of mirrored.columns) {
    const { typeOid, typmod } = wire.get(column.name)!
    if (typeOid === column.typeOid && (typmod === column.typmod || VARCHAR.has(typeOid))) continue
    return `column "${column.name}" changed from type ${describeType(column.typeOid, column.typmod)} to ${describeType(typeOid, typmod)}`
  }
  return describeKeyMismatch(relation, mirrored)
}

/** FULL sends whole rows, which hold any key; NOTHING only inserts. */
function describeKeyMismatch(relation: Relation, mirrored: MirroredTable): string | null {
  if (relation.replicaIdentity === 'f' || relation.replicaIdentity === 'n') return null
  const names = identifierNames(mirrored)
  const flagged = relation.columns.filter((column) => column.isKey).map((column) => column.name)
  if (flagged.length === names.length && flagged.every((name) => names.includes(name))) return null
  const list = (columns: readonly string[]) => (columns.length === 0 ? 'no columns' : columns.map((name) => `"${name}"`).join(', '))
  return `its key or replica identity changed from ${list(names)} to ${list(flagged)}`
}

export function identifierNames(mirrored: MirroredTable): string[] {
  return mirrored.schema.identifierFieldIds.map((id) => {
    const column = mirrored.columns.find((candidate) => candidate.field.id === id)
    if (column === undefined) throw new RangeError(`identifier field ${id} is not among the columns`)
    return column.name
  })
}
