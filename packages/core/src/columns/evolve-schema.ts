import { typesEqual, type Field, type TableSchema } from '../types.ts'
import { isPromotion, promoteField } from './conform.ts'

/**
 * The schema that a table with rows of `before` can take on to be like `now`: columns are the same where their ids are. What is new holds null in
 * older rows, so it is optional, and so is what allowed nulls before. Null where a column has a type that its old values can't be read as.
 */
export function evolveSchema(before: TableSchema, now: TableSchema): TableSchema | null {
  const fields: Field[] = []
  for (const field of now.fields) {
    const known = before.fields.find((candidate) => candidate.id === field.id)
    if (known !== undefined && !typesEqual(known.type, field.type) && !isPromotion(known.type, field.type)) return null
    const typed = known === undefined || typesEqual(known.type, field.type) ? known : promoteField(known, field.type)
    fields.push({ ...(typed ?? field), name: field.name, required: known !== undefined && known.required && field.required })
  }
  return { fields, identifierFieldIds: now.identifierFieldIds }
}
