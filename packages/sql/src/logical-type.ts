import type { FieldType } from '@moonlink/core'
import {
  BIGINT,
  BLOB,
  BOOLEAN,
  DATE,
  DECIMAL,
  DOUBLE,
  FLOAT,
  INTEGER,
  LIST,
  STRUCT,
  TIME,
  TIMESTAMP,
  TIMESTAMPTZ,
  UUID,
  VARCHAR,
  type DuckDBType,
} from '@duckdb/node-api'

/** The DuckDB type that holds a field of this type (see `duckdbType` for the same as SQL). */
export function duckdbLogicalType(type: FieldType): DuckDBType {
  switch (type.kind) {
    case 'boolean':
      return BOOLEAN
    case 'int':
      return INTEGER
    case 'long':
      return BIGINT
    case 'float':
      return FLOAT
    case 'double':
      return DOUBLE
    case 'date':
      return DATE
    case 'time':
      return TIME
    case 'timestamp':
      return TIMESTAMP
    case 'timestamptz':
      return TIMESTAMPTZ
    case 'string':
    case 'variant':
      return VARCHAR
    case 'uuid':
      return UUID
    case 'binary':
    case 'fixed':
      return BLOB
    case 'decimal':
      return DECIMAL(type.precision, type.scale)
    case 'list':
      return LIST(duckdbLogicalType(type.element))
    case 'struct':
      return STRUCT(Object.fromEntries(type.fields.map((field) => [field.name, duckdbLogicalType(field.type)])))
  }
}
