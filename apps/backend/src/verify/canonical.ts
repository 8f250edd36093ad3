import type { Field, FieldType } from '@moonlink/core'

/**
 * One text for each value, the same from Postgres as from the mirror, however either prints it: floats as their bits, times as microseconds, binary as
 * hex, everything else as Postgres' own output function prints it. Null where the value is.
 */
export interface CanonicalText {
  of(type: FieldType, expression: string): string
  quote(name: string): string
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

const bigEndian = (sent: string) => `('x' || encode(${sent}, 'hex'))::bit(64)::bigint::text`

/** In the source's SQL. Text is compared as UTF-8, whatever the database's encoding. */
export const sourceText: CanonicalText = {
  of(type, expression) {
    switch (type.kind) {
      case 'boolean':
        return `(${expression})::int::text`
      case 'float':
        return `('x' || encode(float4send(${expression}), 'hex'))::bit(32)::text`
      case 'double':
        return `('x' || encode(float8send(${expression}), 'hex'))::bit(64)::text`
      case 'decimal':
        return `(${expression})::numeric(${type.precision}, ${type.scale})::text`
      case 'date':
        return `CASE WHEN isfinite(${expression}) THEN (${expression} - date '2000-01-01')::text ELSE (${expression})::text END`
      case 'time':
        return bigEndian(`time_send(${expression})`)
      case 'timestamp':
        return bigEndian(`timestamp_send(${expression})`)
      case 'timestamptz':
        return bigEndian(`timestamptz_send(${expression})`)
      case 'binary':
      case 'fixed':
        return `encode(${expression}, 'hex')`
      case 'list': {
        const elements = `SELECT string_agg(${lengthPrefixed(sourceText, type.element, 'e')}, '' ORDER BY o)`
        return `CASE WHEN ${expression} IS NOT NULL THEN coalesce((${elements} FROM unnest(${expression}) WITH ORDINALITY u(e, o)), '') END`
      }
      default:
        // The output function, which is not always what a cast to text does: char(n) keeps its padding.
        return `CASE WHEN ${expression} IS NOT NULL THEN format('%s', ${expression}) END`
    }
  },
  quote: quoteIdentifier,
  bytes: (text) => `octet_length(convert_to(${text}, 'UTF8'))`,
  md5: (text) => `md5(convert_to(${text}, 'UTF8'))`,
  number: (hex) => `('x' || ${hex})::bit(32)::bigint`,
}

/** In the SQL of the union read. */
export const mirrorText: CanonicalText = {
  of(type, expression) {
    switch (type.kind) {
      case 'boolean':
        return `(${expression})::INT::VARCHAR`
      case 'float':
      case 'double':
        return `(${expression})::BIT::VARCHAR`
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
        const elements = `list_transform(${expression}, lambda e: ${lengthPrefixed(mirrorText, type.element, 'e')})`
        return `array_to_string(${elements}, '')`
      }
      default:
        return `(${expression})::VARCHAR`
    }
  },
  quote: quoteIdentifier,
  bytes: (text) => `strlen(${text})`,
  md5: (text) => `md5(${text})`,
  number: (hex) => `('0x' || ${hex})::BIGINT`,
}

/** With its length before it, so that no two rows give the same text unless their values are the same. Never null. */
function lengthPrefixed(dialect: CanonicalText, type: FieldType, expression: string): string {
  const text = dialect.of(type, expression)
  return `coalesce(${dialect.bytes(text)} || ':' || ${text}, '-')`
}

/** One text for a whole row of these fields. */
export function rowText(dialect: CanonicalText, fields: readonly Field[]): string {
  if (fields.length === 0) return `''`
  return fields.map((field) => lengthPrefixed(dialect, field.type, dialect.quote(field.name))).join(' || ')
}
