import type { FieldType } from '@moonlink/core'

/**
 * One text for each value, the same from Postgres (`source-text.ts`) as from the mirror, however either prints it: floats as their bits, times as
 * microseconds, binary as hex, everything else as Postgres' own output function prints it. Null where the value is. Lists and structs are the texts
 * of what they are made of, each with its length before it.
 */
export interface CanonicalText {
  /** The length of a text in bytes. */
  bytes(text: string): string
  /** The text's MD5 as 32 hexadecimal digits. */
  md5(text: string): string
  /** Eight hexadecimal digits as a number. */
  number(hex: string): string
}

export const quoteIdentifier = (name: string) => `"${name.replaceAll('"', '""')}"`

/** Postgres' epoch is 2000-01-01. */
const EPOCH_MICROS = 946_684_800_000_000n

/** In the source's SQL. Text is compared as UTF-8, whatever the database's encoding. */
export const sourceDialect: CanonicalText = {
  bytes: (text) => `octet_length(convert_to(${text}, 'UTF8'))`,
  md5: (text) => `md5(convert_to(${text}, 'UTF8'))`,
  number: (hex) => `('x' || ${hex})::bit(32)::bigint`,
}

/** In the SQL of the union read. */
export const mirrorDialect: CanonicalText = {
  bytes: (text) => `strlen(${text})`,
  md5: (text) => `md5(${text})`,
  number: (hex) => `('0x' || ${hex})::BIGINT`,
}

/** A value of the mirror, in the SQL of the union read. */
export function mirrorText(type: FieldType, expression: string, depth = 0): string {
  switch (type.kind) {
    case 'boolean':
      return `(${expression})::INT::VARCHAR`
    case 'float':
    case 'double':
      return `(${expression})::BIT::VARCHAR`
    case 'decimal':
      // DuckDB prints no zero before the point of a type that has no digit there.
      return type.precision > type.scale ? `(${expression})::VARCHAR` : `regexp_replace((${expression})::VARCHAR, '^(-?)[.]', '\\10.')`
    case 'date':
      return `date_diff('day', DATE '2000-01-01', ${expression})::VARCHAR`
    case 'time':
      return `epoch_us(${expression})::VARCHAR`
    case 'timestamp':
    case 'timestamptz':
      return `(epoch_us(${expression}) - ${EPOCH_MICROS})::VARCHAR`
    case 'binary':
    case 'fixed':
      return `lower(hex(${expression}))`
    case 'list': {
      const element = `e${depth}`
      const text = lengthPrefixed(mirrorDialect, mirrorText(type.element, element, depth + 1))
      return `array_to_string(list_transform(${expression}, lambda ${element}: ${text}), '')`
    }
    case 'struct': {
      const part = (name: string) => `struct_extract(${expression}, '${name.replaceAll("'", "''")}')`
      const parts = type.fields.map((field) => lengthPrefixed(mirrorDialect, mirrorText(field.type, part(field.name), depth)))
      return `CASE WHEN ${expression} IS NOT NULL THEN ${concatenated(parts)} END`
    }
    default:
      return `(${expression})::VARCHAR`
  }
}

/** With its length before it, so that no two rows give the same text unless their values are the same. Never null. */
export function lengthPrefixed(dialect: CanonicalText, text: string): string {
  return `coalesce(${dialect.bytes(text)} || ':' || ${text}, '-')`
}

/** One text of texts, at least one; in pairs, as DuckDB takes no expression that is nested by more than 1000. */
export function concatenated(texts: readonly string[]): string {
  if (texts.length === 1) return texts[0]
  const half = Math.ceil(texts.length / 2)
  return `(${concatenated(texts.slice(0, half))} || ${concatenated(texts.slice(half))})`
}
