import type { FieldType } from '@moonlink/core'
import type { MappedColumn } from './mapping.ts'
import type { SourceType } from './source-type.ts'

/** Where a field of a mirror comes from. */
export interface FieldSource {
  readonly column: string
  readonly type: SourceType
  /** `value`: the column's values. `text`: Postgres' text of those that do not fit, null for the others. */
  readonly role: 'value' | 'text'
  /** What the column's values are mirrored as, whatever the role. */
  readonly fieldType: FieldType
  /** What becomes of values that do not fit; null where none can be met. */
  readonly unfit: 'null' | 'text' | null
  readonly dropsLowerBounds: boolean
}

/** By field id. */
export function fieldSources(columns: readonly MappedColumn[]): ReadonlyMap<number, FieldSource> {
  return new Map(
    columns.flatMap(({ name, type, field, textField, unfit, dropsLowerBounds }) => {
      const source = { column: name, type, fieldType: field.type, unfit: unfit?.action ?? null, dropsLowerBounds }
      const value: FieldSource = { ...source, role: 'value' }
      const text: FieldSource = { ...source, role: 'text' }
      return textField === null ? [[field.id, value] as const] : [[field.id, value] as const, [textField.id, text] as const]
    }),
  )
}
