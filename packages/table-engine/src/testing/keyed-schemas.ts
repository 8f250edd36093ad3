import type { TableSchema } from '@moonlink/core'

const fields = [
  { id: 1, name: 'id', type: { kind: 'long' }, required: true },
  { id: 2, name: 'name', type: { kind: 'string' }, required: true },
  { id: 3, name: 'big', type: { kind: 'string' }, required: false },
] as const

/** The same columns under each kind of key. */
export const keyedSchemas: Readonly<Record<string, TableSchema>> = {
  'a long key': { fields, identifierFieldIds: [1] },
  'a text key': { fields, identifierFieldIds: [2] },
  'a composite key': { fields, identifierFieldIds: [1, 2] },
  'no key': { fields, identifierFieldIds: [] },
}

/** Rows that only have a key and a name. */
export const namedRows: TableSchema = {
  fields: [
    { id: 1, name: 'id', type: { kind: 'long' }, required: true },
    { id: 2, name: 'name', type: { kind: 'string' }, required: true },
  ],
  identifierFieldIds: [1],
}
