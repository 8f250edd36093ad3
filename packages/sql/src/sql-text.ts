import type { FieldType } from '@moonlink/core'

/** An identifier, quoted. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** A string literal. */
export function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

/** The DuckDB type that holds a field of this type, as SQL. */
export function duckdbType(type: FieldType): string {
  switch (type.kind) {
    case 'boolean':
      return 'BOOLEAN'
    case 'int':
      return 'INTEGER'
    case 'long':
      return 'BIGINT'
    case 'float':
      return 'FLOAT'
    case 'double':
      return 'DOUBLE'
    case 'date':
      return 'DATE'
    case 'time':
      return 'TIME'
    case 'timestamp':
      return 'TIMESTAMP'
    case 'timestamptz':
      return 'TIMESTAMPTZ'
    case 'string':
    case 'variant':
      return 'VARCHAR'
    case 'uuid':
      return 'UUID'
    case 'binary':
    case 'fixed':
      return 'BLOB'
    case 'decimal':
      return `DECIMAL(${type.precision},${type.scale})`
    case 'list':
      return `${duckdbType(type.element)}[]`
    case 'struct':
      return `STRUCT(${type.fields.map((field) => `${quoteName(field.name)} ${duckdbType(field.type)}`).join(', ')})`
  }
}
