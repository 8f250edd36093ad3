import { plainKinds, type PrimitiveType } from '@moonlink/core'

/** What a rule's `as` asks for; `element` is null where the element's own default is to be taken. */
export type TargetType = PrimitiveType | { readonly kind: 'struct' } | { readonly kind: 'list'; readonly element: TargetType | null }

/** Types that Iceberg has and a mirror does not write, and why. */
export const unwrittenTypes: Readonly<Record<string, string>> = {
  geometry:
    'it is not written, since a geometry of Iceberg has no place for the SRID of each value; as binary it is extended well-known binary, which has',
  geography: 'it is not written, since DuckDB cannot load a table that has a geography; as binary it is extended well-known binary',
}

/** Reads `string`, `decimal(38,10)`, `list`, `list<list<long>>` …; null for what is none of these. */
export function parseTarget(text: string): TargetType | null {
  const trimmed = text.trim()
  const plain = plainKinds.find((kind) => kind === trimmed)
  if (plain) return { kind: plain }
  if (trimmed === 'struct') return { kind: 'struct' }
  const decimal = /^decimal\(\s*(\d{1,2})\s*,\s*(\d{1,2})\s*\)$/.exec(trimmed)
  if (decimal) return decimalTarget(Number(decimal[1]), Number(decimal[2]))
  if (trimmed === 'list') return { kind: 'list', element: null }
  const list = /^list<(.*)>$/.exec(trimmed)
  if (!list) return null
  const element = parseTarget(list[1])
  return element && { kind: 'list', element }
}

function decimalTarget(precision: number, scale: number): TargetType | null {
  return precision >= 1 && precision <= 38 && scale <= precision ? { kind: 'decimal', precision, scale } : null
}
