import type { FieldType } from '@moonlink/core'
import type { FieldSource, SourceType } from '@moonlink/pg-source'
import { concatenated, lengthPrefixed, quoteIdentifier, sourceDialect } from './canonical.ts'

/** The source's side of the canonical texts (see `canonical.ts`), in Postgres' SQL; what does not fit the mirror is what its policy makes of it. */

const NUMERIC = 1700
const PARTS_OF_NUMERIC = `'NaN', 'Infinity', '-Infinity'`
const LAST_TIMESTAMP = '294247-01-10 04:00:54.775807'

export function sourceFieldText(source: FieldSource): string {
  const column = quoteIdentifier(source.column)
  const writer = new SourceText(source)
  if (source.role === 'text') return `CASE WHEN NOT ${writer.fits(source.fieldType, column, source.type)} THEN ${printed(column)} END`
  const text = writer.text(source.fieldType, column, source.type)
  return source.unfit === 'text' ? `CASE WHEN ${writer.fits(source.fieldType, column, source.type)} THEN ${text} END` : text
}

class SourceText {
  private readonly source: FieldSource

  constructor(source: FieldSource) {
    this.source = source
  }

  /** Under `onUnfit: null` each part that does not fit is null by itself. */
  text(type: FieldType, expression: string, declared: SourceType, depth = 0): string {
    const of = resolved(declared)
    const text = this.plainText(type, expression, of, depth)
    const fits = this.source.unfit === 'null' ? this.ownFits(type, expression, of) : null
    return fits === null ? text : `CASE WHEN ${fits} THEN ${text} END`
  }

  private plainText(type: FieldType, expression: string, of: SourceType, depth: number): string {
    switch (type.kind) {
      case 'boolean':
        return `(${expression})::int::text`
      case 'long':
        return of.name.startsWith('reg') ? `(${expression})::oid::text` : printed(expression)
      case 'float':
        return `('x' || encode(float4send(${expression}), 'hex'))::bit(32)::text`
      case 'double':
        return `('x' || encode(float8send(${expression}), 'hex'))::bit(64)::text`
      case 'decimal':
        return `(${expression})${of.name === 'xid8' ? '::text' : ''}::numeric(${type.precision}, ${type.scale})::text`
      case 'date':
        return `(${expression} - date '2000-01-01')::text`
      case 'time':
        return bigEndian(`time_send(${expression})`)
      case 'timestamp':
        return bigEndian(`timestamp_send(${expression})`)
      case 'timestamptz':
        return bigEndian(`timestamptz_send(${expression})`)
      case 'binary':
      case 'fixed':
        return `encode((${expression})::bytea, 'hex')`
      case 'variant':
        return printed(`(${expression})::jsonb`)
      case 'list':
        return this.listText(type.element, arrayOf(expression, of), of.element, depth)
      case 'struct': {
        const parts = type.fields.map((field) => {
          const attribute = of.attributes.find(({ name }) => name === field.name)!
          const part = `(${expression}).${quoteIdentifier(field.name)}`
          return lengthPrefixed(sourceDialect, this.text(field.type, part, attribute.type, depth))
        })
        return `CASE WHEN ${expression} IS DISTINCT FROM NULL THEN ${concatenated(parts)} END`
      }
      default:
        return printed(expression)
    }
  }

  /** Lists within each other of one array are its dimensions; `indices` are those of the outer ones. */
  private listText(element: FieldType, array: string, elementType: SourceType | null, depth: number, indices = ''): string {
    const dimension = indices.split('[').length
    const isOuter = element.kind === 'list' && (elementType === null || resolved(elementType).element === null)
    const index = `i${depth}_${dimension}`
    const at = `${indices}[${index}]`
    const text = isOuter
      ? this.listText(element.element, array, elementType, depth, at)
      : elementType === null
        ? this.plainText(element, `(${array})${at}`, unknownType, depth + 1)
        : this.text(element, `(${array})${at}`, elementType, depth + 1)
    if (dimension === 1 && !isOuter && (elementType === null || resolved(elementType).kind !== 'c')) {
      return this.flatText(element, array, elementType, depth)
    }
    const all = `SELECT string_agg(${lengthPrefixed(sourceDialect, text)}, '' ORDER BY ${index}) FROM generate_subscripts(${array}, ${dimension}) ${index}`
    return dimension > 1 ? `coalesce((${all}), '')` : `CASE WHEN ${array} IS NOT NULL THEN coalesce((${all}), '') END`
  }

  /** Reading an array once is faster than by its subscripts; but composites would come apart, and dimensions would be lost. */
  private flatText(element: FieldType, array: string, elementType: SourceType | null, depth: number): string {
    const value = `e${depth}`
    const text =
      elementType === null ? this.plainText(element, value, unknownType, depth + 1) : this.text(element, value, elementType, depth + 1)
    const all = `SELECT string_agg(${lengthPrefixed(sourceDialect, text)}, '' ORDER BY o${depth})`
    return `CASE WHEN ${array} IS NOT NULL THEN coalesce((${all} FROM unnest(${array}) WITH ORDINALITY AS u${depth}(${value}, o${depth})), '') END`
  }

  /** Whether the value and all its parts fit. */
  fits(type: FieldType, expression: string, declared: SourceType, depth = 0): string {
    const of = resolved(declared)
    const own = this.ownFits(type, expression, of) ?? 'true'
    if (type.kind === 'list' && of.element !== null) {
      let element: FieldType = type.element
      while (element.kind === 'list' && resolved(of.element).element === null) element = element.element
      const part = `v${depth}`
      const inner = this.fits(element, part, of.element, depth + 1)
      const isRow = resolved(of.element).kind === 'c'
      const from = isRow ? `unnest(${expression}) ${part}` : `unnest(${expression}) AS u${depth}(${part})`
      return `(${own} AND NOT EXISTS (SELECT FROM ${from} WHERE NOT ${inner}))`
    }
    if (type.kind !== 'struct') return `coalesce(${own}, true)`
    const parts = type.fields.map((field) => {
      const attribute = of.attributes.find(({ name }) => name === field.name)!
      return this.fits(field.type, `(${expression}).${quoteIdentifier(field.name)}`, attribute.type, depth + 1)
    })
    return `(${[own, ...parts].join(' AND ')})`
  }

  /** Whether the value fits, its parts aside; null where every value does. */
  private ownFits(type: FieldType, expression: string, of: SourceType): string | null {
    switch (type.kind) {
      case 'decimal': {
        if (of.oid !== NUMERIC) return null
        const isNumber = `${expression} NOT IN (${PARTS_OF_NUMERIC})`
        const isShort = `abs(${expression}) < 1e${type.precision - type.scale}::numeric AND round(${expression}, ${type.scale}) = ${expression}`
        return `(CASE WHEN ${isNumber} THEN ${isShort} ELSE ${expression} IS NULL END)`
      }
      case 'date':
        return `isfinite(${expression})`
      case 'timestamp':
        return `(isfinite(${expression}) AND ${expression} < timestamp '${LAST_TIMESTAMP}')`
      case 'timestamptz':
        return `(isfinite(${expression}) AND ${expression} < timestamptz '${LAST_TIMESTAMP}+00')`
      case 'time':
        return `${expression} < time '24:00'`
      case 'variant':
        return variantFits(expression, of)
      case 'list':
        return of.element === null ? null : this.shapeFits(type, expression, of.element)
      default:
        return null
    }
  }

  private shapeFits(type: FieldType & { kind: 'list' }, expression: string, element: SourceType): string {
    let depth = 1
    for (let inner = type.element; inner.kind === 'list' && resolved(element).element === null; inner = inner.element) depth++
    const conditions = [`array_ndims(${expression}) = ${depth}`]
    if (!this.source.dropsLowerBounds) {
      for (let dimension = 1; dimension <= depth; dimension++) conditions.push(`array_lower(${expression}, ${dimension}) = 1`)
    }
    // An empty array has no dimensions.
    return `(array_ndims(${expression}) IS NULL OR ${conditions.join(' AND ')})`
  }
}

/** What json has and jsonb hasn't is told from its text; one key twice in an object is told by walking through the value. */
function variantFits(expression: string, of: SourceType): string {
  const number = `(n #>> '{}')::numeric`
  const isLong = `scale(${number}) > 38 OR abs(${number}) >= ('1e' || 38 - least(38, scale(${number})))::numeric`
  const numbersFit = (value: string) =>
    `NOT EXISTS (SELECT FROM jsonb_path_query(${value}, 'strict $.**') AS n(n) WHERE CASE jsonb_typeof(n) WHEN 'number' THEN ${isLong} ELSE false END)`
  if (of.name !== 'json') return `(${expression} IS NULL OR ${numbersFit(expression)})`
  const escapes = `regexp_replace(replace((${expression})::text, '\\\\', ''), '\\\\u[dD][89abAB][0-9a-fA-F]{2}\\\\u[dD][c-fC-F][0-9a-fA-F]{2}', '', 'g')`
  const parts = `SELECT value AS part FROM json_each(CASE json_typeof(j) WHEN 'object' THEN j END) UNION ALL SELECT value FROM json_array_elements(CASE json_typeof(j) WHEN 'array' THEN j END)`
  const twice = `WITH RECURSIVE walk(j) AS (SELECT (${expression})::json UNION ALL SELECT part FROM walk, LATERAL (${parts}) AS parts) SELECT FROM walk WHERE CASE json_typeof(j) WHEN 'object' THEN (SELECT count(*) > count(DISTINCT key) FROM json_object_keys(j) AS key) ELSE false END`
  return `CASE WHEN ${expression} IS NULL THEN true WHEN ${escapes} ~ '\\\\u(0000|[dD][89a-fA-F])' THEN false WHEN EXISTS (${twice}) THEN false ELSE ${numbersFit(`(${expression})::jsonb`)} END`
}

const bigEndian = (sent: string) => `('x' || encode(${sent}, 'hex'))::bit(64)::bigint::text`

/** The output function, which is not always what a cast to text does: char(n) keeps its padding. */
function printed(expression: string): string {
  return `CASE WHEN ${expression} IS DISTINCT FROM NULL THEN format('%s', ${expression}) END`
}

/** A base type of which nothing else is known. */
export const unknownType: SourceType = {
  oid: 0,
  name: '',
  schema: '',
  extension: null,
  kind: 'b',
  isSendable: true,
  delimiter: ',',
  element: null,
  base: null,
  part: null,
  attributes: [],
  labels: [],
}

function resolved(type: SourceType): SourceType {
  return type.base === null ? type : resolved(type.base.type)
}

/** What is mirrored as a list without being an array counts from 0, or is none to SQL. */
function arrayOf(expression: string, of: SourceType): string {
  if (of.element !== null) return expression
  if (of.name === 'int2vector') return `(${expression})::int2[]`
  return of.name === 'oidvector' ? `(${expression})::oid[]` : `(${expression})::real[]`
}
