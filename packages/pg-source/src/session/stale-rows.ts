import { isDeepStrictEqual } from 'node:util'
import type { FieldType } from '@moonlink/core'
import type { SourceType } from '../types/index.ts'
import type { MappedShape } from './describe-shape.ts'
import type { RelationShape, ShapeColumn } from './relation-shape.ts'

/** How Postgres rewrote a table while it changed it. */
export interface Rewrite {
  /** `pg_event_trigger_table_rewrite_reason`. */
  readonly reason: number
  /** No USING clause was involved, so that values were cast as an assignment casts them. */
  readonly isPlain: boolean
}

/** Bits of a rewrite's reason, as in `commands/event_trigger.h`. */
const REWRITTEN_FOR_PERSISTENCE = 1
const REWRITTEN_FOR_DEFAULT = 2
const REWRITTEN_FOR_TYPE = 4

const Oid = { int8: 20, int2: 21, int4: 23, text: 25, float4: 700, float8: 701, varchar: 1043 } as const
/** Casts that keep the value and that Iceberg's promotions do alike. */
const WIDER: Readonly<Record<number, readonly number[]>> = {
  [Oid.int2]: [Oid.int4, Oid.int8],
  [Oid.int4]: [Oid.int8],
  [Oid.float4]: [Oid.float8],
}
const TEXTS: ReadonlySet<number> = new Set([Oid.text, Oid.varchar])

/**
 * Why rows that a mirror has show other values than the source once its table went from `before` to `after`, or null where they do not. `rewrite`
 * is null where Postgres left the stored rows as they were.
 */
export function describeStaleRows(before: RelationShape, after: MappedShape, rewrite: Rewrite | null): string | null {
  if (rewrite !== null) {
    if ((rewrite.reason & REWRITTEN_FOR_PERSISTENCE) !== 0) return 'it was made unlogged, or logged again'
    // A rewrite takes what was kept for older rows into the rows, be it for another column of the command.
    const added = after.relation.columns.find(
      ({ missing, number }) => missing === null && !before.columns.some((column) => column.number === number),
    )
    if (added !== undefined) return `column "${added.name}" was added with a value of its own in each row`
    const generated = after.columns.find(({ name }) => after.relation.columns.some((one) => one.name === name && one.generated !== ''))
    if (generated !== undefined && (rewrite.reason & REWRITTEN_FOR_DEFAULT) !== 0) return `column "${generated.name}" was generated anew`
  }
  const isRecast = rewrite !== null && (rewrite.reason & REWRITTEN_FOR_TYPE) !== 0
  if (isRecast && !rewrite.isPlain) return 'its rows were rewritten'
  for (const column of after.columns) {
    const now = after.relation.columns.find(({ name }) => name === column.name)!
    const then = before.columns.find(({ number }) => number === now.number)
    if (then === undefined) continue
    // As text, a float of more bits shows more digits.
    const isWidenedText = then.typeOid === Oid.float4 && now.typeOid === Oid.float8 && column.field.type.kind === 'string'
    if (isWidenedText || !keepsValues(then, now, isRecast))
      return `column "${now.name}" was converted from ${then.typeName} to ${now.typeName}`
    const altered = alteredText(column.type, column.field.type, before)
    if (altered !== null) return altered
  }
  return null
}

function keepsValues(then: ShapeColumn, now: ShapeColumn, isRecast: boolean): boolean {
  if (then.typeOid === now.typeOid) return then.typmod === now.typmod || !isRecast
  if (isRecast) return WIDER[then.typeOid]?.includes(now.typeOid) === true && now.typmod < 0
  return TEXTS.has(then.typeOid) && TEXTS.has(now.typeOid)
}

/** What became of a type that columns have, so that their values are others than the mirror shows, or are called so; null where nothing did. */
export function describeAlteredType(before: RelationShape | null, now: RelationShape): string | null {
  if (before === null || before.oid !== now.oid) return null
  return first(now.types, (type) => {
    const known = before.types.find(({ oid }) => oid === type.oid)
    if (known === undefined) return null
    if (!isDeepStrictEqual(known.attributes, type.attributes)) return `type ${type.name} was altered`
    return renamedLabel(type.name, known.labels, type.labels)
  })
}

type Labels = readonly (readonly [number, string])[] | null

function renamedLabel(type: string, before: Labels, now: Labels): string | null {
  const labels = new Map(before)
  const renamed = now?.find(([oid, label]) => labels.has(oid) && labels.get(oid) !== label)
  return renamed === undefined ? null : `a value of type ${type} was renamed to "${renamed[1]}"`
}

/** Why the text of old values, where the mirror holds their text, is another now. */
function alteredText(type: SourceType, field: FieldType, before: RelationShape): string | null {
  if (type.base !== null) return alteredText(type.base.type, field, before)
  if (type.element !== null && field.kind === 'list') return alteredText(type.element, innermost(field), before)
  if (type.kind === 'c' && field.kind === 'struct') {
    return first(type.attributes, (attribute, index) => alteredText(attribute.type, field.fields[index].type, before))
  }
  return alteredWithin(type, before)
}

function alteredWithin(type: SourceType, before: RelationShape): string | null {
  const then = before.types.find(({ oid }) => oid === type.oid)
  if (then === undefined) return null
  const renamed = renamedLabel(type.name, then.labels, type.labels)
  if (renamed !== null) return renamed
  if (type.kind === 'c' && type.attributes.map(({ number }) => number).join() !== then.attributes.map(({ number }) => number).join()) {
    return `type ${type.name} was altered`
  }
  const parts = [type.element, type.base?.type ?? null, type.part, ...type.attributes.map((attribute) => attribute.type)]
  return first(parts, (part) => part && alteredWithin(part, before))
}

function innermost(type: FieldType): FieldType {
  return type.kind === 'list' ? innermost(type.element) : type
}

function first<Item>(items: readonly Item[], look: (item: Item, index: number) => string | null): string | null {
  for (const [index, item] of items.entries()) {
    const found = look(item, index)
    if (found !== null) return found
  }
  return null
}
