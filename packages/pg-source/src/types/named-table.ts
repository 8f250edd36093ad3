import { canonicalTableName } from '@moonlink/core'
import { z } from 'zod'

/** A table's name in settings and requests, quoted or not; comes as `formatTableName` writes it. */
export const tableName = z
  .string()
  .refine((text) => written(text) !== null, 'is not a table name; write schema.name, as in public.orders')
  .overwrite((text) => written(text) ?? text)

function written(text: string): string | null {
  try {
    return canonicalTableName(text)
  } catch {
    return null
  }
}
