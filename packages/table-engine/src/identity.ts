import { assert, conformBatch, formatType, type ColumnBatch, type Field, type TableSchema } from '@moonlink/core'
import { createKeyHasher, type KeyHasher } from '@moonlink/pk-index'

/** What identifies a row: the key's fields, or every field of a table without a key. */
export interface Identity {
  readonly keyless: boolean
  readonly fields: readonly Field[]
  readonly fieldIds: readonly number[]
  readonly hasher: KeyHasher
  /** Equal where hashes of equal rows are: the names of the fields do not matter. */
  readonly fingerprint: string
}

export function identityOf(schema: TableSchema): Identity {
  const keyless = schema.identifierFieldIds.length === 0
  const fields = keyless
    ? schema.fields
    : schema.identifierFieldIds.map((id) => {
        const field = schema.fields.find((candidate) => candidate.id === id)
        assert(field !== undefined, 'identifier fields are fields of the schema', { id })
        return field
      })
  const hasher = createKeyHasher(fields)
  const parts = fields.map(({ id, type }) => `${id} ${formatType(type)}`)
  const fingerprint = `${keyless ? 'rows' : 'keys'}${hasher.exact ? ' exact' : ''}: ${parts.join(', ')}`
  return { keyless, fields, fieldIds: fields.map((field) => field.id), hasher, fingerprint }
}

/** The identifying cells of rows, whatever schema these have. */
export function keysOf(identity: Identity, rows: ColumnBatch): ColumnBatch {
  return conformBatch(rows, identity.fields)
}
