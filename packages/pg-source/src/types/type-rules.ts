import { z } from 'zod'
import { tableName } from './named-table.ts'
import type { SourceType } from './source-type.ts'
import { parseTarget, unwrittenTypes } from './target-type.ts'

/** `error` pauses the table; `null` leaves the value out and counts it; `text` keeps Postgres' text of it in a second column. */
const onUnfit = z.union([z.enum(['error', 'null', 'text']), z.null().transform((): 'null' => 'null')])
export type OnUnfit = 'error' | 'null' | 'text'

const target = z.string().superRefine((text, context) => {
  const unwritten = unwrittenTypes[text.trim()]
  if (unwritten === undefined && parseTarget(text) !== null) return
  const known = 'string, decimal(38,10), list, list<list<long>>, struct, time, binary and the like'
  context.addIssue({ code: 'custom', message: unwritten ?? `"${text}" is no type; write ${known}` })
})

const ruleObject = z.strictObject({
  as: target.optional(),
  onUnfit: onUnfit.optional(),
  lowerBounds: z.enum(['error', 'drop']).optional(),
})

/** How a type or a column is mirrored; text alone is its `as`. */
export const typeRule = z.union([target.transform((as) => ({ as })), ruleObject])
export type TypeRule = z.output<typeof ruleObject>

/** What values a mirror can hold, and what becomes of the others. */
export const typePolicy = {
  types: z.record(z.string(), typeRule),
  columns: z.record(tableName, z.record(z.string(), typeRule)),
  onUnfit,
}

export interface TypePolicy {
  /** Rules by type, under any name that Postgres has for it: `numeric`, `timestamptz`, `int4[]`, `public.mood`. */
  readonly types: Readonly<Record<string, TypeRule>>
  /** Rules by table and column; each says what it differs in from the type's. */
  readonly columns: Readonly<Record<string, Readonly<Record<string, TypeRule>>>>
  readonly onUnfit: OnUnfit
}

export const defaultPolicy: TypePolicy = { types: {}, columns: {}, onUnfit: 'error' }

/** Names that SQL has for built-in types beside those of the catalog. */
const ALIASES: Readonly<Record<string, string>> = {
  boolean: 'bool',
  smallint: 'int2',
  integer: 'int4',
  int: 'int4',
  bigint: 'int8',
  real: 'float4',
  'double precision': 'float8',
  decimal: 'numeric',
  character: 'bpchar',
  char: 'bpchar',
  '"char"': 'char',
  'character varying': 'varchar',
  bit: 'bit',
  'bit varying': 'varbit',
  'time without time zone': 'time',
  'time with time zone': 'timetz',
  'timestamp without time zone': 'timestamp',
  'timestamp with time zone': 'timestamptz',
}

/** The rule of a type itself, not of what it is made of. */
export function ruleOf(types: TypePolicy['types'], type: SourceType): TypeRule {
  const names = new Set(namesOf(type))
  const found = Object.entries(types).find(([name]) => names.has(canonical(name)))
  return found?.[1] ?? {}
}

/** A rule's type as the catalog calls it. */
export function canonical(name: string): string {
  const array = /^(.*)\[\]$/.exec(name.trim())
  if (array) return `${canonical(array[1])}[]`
  const plain = name.trim()
  return ALIASES[plain] ?? plain
}

function namesOf(type: SourceType): string[] {
  if (type.element) return namesOf(type.element).map((name) => `${name}[]`)
  return [type.name, `${type.schema}.${type.name}`]
}
