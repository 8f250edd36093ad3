import type { Dice } from '../oracle/dice.ts'
import { near, type BoundedColumn } from './columns.ts'

export type Comparison = '=' | '<>' | '<' | '<=' | '>' | '>='
export type Predicate =
  | { readonly op: Comparison; readonly column: BoundedColumn; readonly value: string }
  | { readonly op: 'in' | 'not in'; readonly column: BoundedColumn; readonly values: readonly string[] }
  | { readonly op: 'null' | 'not null'; readonly column: BoundedColumn }
  | { readonly op: 'starts' | 'not starts'; readonly column: BoundedColumn; readonly value: string }
  | { readonly op: 'and' | 'or'; readonly of: readonly [Predicate, Predicate] }

/** `known`: values that columns have, by name. */
export function randomPredicate(
  columns: readonly BoundedColumn[],
  known: ReadonlyMap<string, readonly string[]>,
  dice: Dice,
  depth = 0,
): Predicate {
  if (depth < 2 && dice.chance(0.25)) {
    const part = () => randomPredicate(columns, known, dice, depth + 1)
    return { op: dice.pick(['and', 'or'] as const), of: [part(), part()] }
  }
  const column = dice.pick(columns)
  const value = (): string => {
    const held = known.get(column.name) ?? []
    if (held.length === 0 || dice.chance(0.2)) return column.value(dice)
    return dice.chance(0.7) ? dice.pick(held) : near(column, dice.pick(held), dice)
  }
  if (dice.chance(0.1)) return { op: dice.pick(['null', 'not null'] as const), column }
  if (dice.chance(0.15)) {
    const values = Array.from({ length: dice.between(1, 3) }, value)
    return { op: dice.pick(['in', 'in', 'not in'] as const), column, values: [...new Set(values)] }
  }
  if (column.kind === 'string' && dice.chance(0.3)) {
    return {
      op: dice.pick(['starts', 'starts', 'not starts'] as const),
      column,
      value: Array.from(value()).slice(0, dice.between(0, 18)).join(''),
    }
  }
  const op = dice.pick(column.kind === 'boolean' ? (['=', '<>'] as const) : (['=', '<>', '<', '<=', '>', '>='] as const))
  return { op, column, value: value() }
}

/** Every comparison in it. */
export function leavesOf(predicate: Predicate): Exclude<Predicate, { readonly op: 'and' | 'or' }>[] {
  return 'of' in predicate ? predicate.of.flatMap(leavesOf) : [predicate]
}

export interface Dialect {
  readonly literal: (column: BoundedColumn, value: string) => string
  readonly column: (column: BoundedColumn) => string
  readonly startsWith: (column: string, prefix: string) => string
}

export function toSql(predicate: Predicate, dialect: Dialect): string {
  if ('of' in predicate) {
    return `(${predicate.of.map((part) => toSql(part, dialect)).join(predicate.op === 'and' ? ' AND ' : ' OR ')})`
  }
  const name = dialect.column(predicate.column)
  const literal = (value: string) => dialect.literal(predicate.column, value)
  switch (predicate.op) {
    case 'null':
      return `${name} IS NULL`
    case 'not null':
      return `${name} IS NOT NULL`
    case 'in':
    case 'not in':
      return `${name} ${predicate.op.toUpperCase()} (${predicate.values.map(literal).join(', ')})`
    case 'starts':
      return dialect.startsWith(name, literal(predicate.value))
    case 'not starts':
      return `NOT ${dialect.startsWith(name, literal(predicate.value))}`
    default:
      return `${name} ${predicate.op} ${literal(predicate.value)}`
  }
}

const DAY_US = 86_400_000_000n
const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`
const hexOf = (text: string) => Buffer.from(text).toString('hex')

/** A timestamp by its day and what of that has passed: seconds since 1970 in one number would be rounded. */
function postgresTimestamp(microseconds: string): string {
  const us = BigInt(microseconds)
  const within = ((us % DAY_US) + DAY_US) % DAY_US
  return `(date '1970-01-01' + ${(us - within) / DAY_US} + interval '${within} microseconds')`
}

const place = (quote: string, { name, of }: BoundedColumn) =>
  [...(of === undefined ? [] : [of]), name].map((part) => quote + part + quote).join('.')

export const postgres: Dialect = {
  literal: ({ kind, type }, value) => {
    switch (kind) {
      case 'int':
      case 'long':
        return `'${value}'::int8`
      case 'binary':
        return `'\\x${value}'::bytea`
      case 'date':
        return `(date '1970-01-01' + ${value})`
      case 'time':
        return `(time '00:00' + interval '${value} microseconds')`
      case 'timestamp':
        return postgresTimestamp(value)
      case 'timestamptz':
        return `(${postgresTimestamp(value)} AT TIME ZONE 'UTC')`
      default:
        return `${quoted(value)}::${type}`
    }
  },
  column: ({ kind, type, name, of }) => {
    const column = of === undefined ? name : `(${of}).${name}`
    if (kind === 'string') return `${column} COLLATE "C"`
    return type === 'oid' ? `${column}::int8` : column
  },
  startsWith: (column, prefix) => `starts_with(${column}, ${prefix})`,
}

export const duckdb: Dialect = {
  literal: ({ kind, type }, value) => {
    switch (kind) {
      case 'int':
      case 'long':
        return `'${value}'::${kind === 'int' ? 'INTEGER' : 'BIGINT'}`
      case 'float':
      case 'double':
        return `'${value}'::${kind.toUpperCase()}`
      case 'decimal':
        return `'${value}'::${type}`
      case 'binary':
        return `unhex('${value}')`
      case 'uuid':
        return `'${value}'::UUID`
      case 'date':
        return `(DATE '1970-01-01' + (${value})::INTEGER)`
      case 'time':
        return `(TIME '00:00:00' + to_microseconds(${value}))`
      case 'timestamp':
        return `make_timestamp((${value})::BIGINT)`
      case 'timestamptz':
        return `make_timestamptz((${value})::BIGINT)`
      default:
        return kind === 'boolean' ? value : quoted(value)
    }
  },
  column: (column) => place('"', column),
  startsWith: (column, prefix) => `starts_with(${column}, ${prefix})`,
}

export const spark: Dialect = {
  literal: ({ kind, type }, value) => {
    switch (kind) {
      case 'int':
      case 'long':
        return `CAST('${value}' AS ${kind === 'int' ? 'INT' : 'BIGINT'})`
      case 'float':
      case 'double':
        return `CAST('${value}' AS ${kind.toUpperCase()})`
      case 'decimal':
        return `CAST('${value}' AS ${type.replace('numeric', 'DECIMAL')})`
      case 'binary':
        return `X'${value}'`
      case 'uuid':
        return `'${value}'`
      case 'date':
        return `date_from_unix_date(${value})`
      case 'timestamp':
        return `CAST(timestamp_micros(${value}) AS TIMESTAMP_NTZ)`
      case 'timestamptz':
        return `timestamp_micros(${value})`
      default:
        return kind === 'boolean' ? value : `decode(unhex('${hexOf(value)}'), 'UTF-8')`
    }
  },
  column: (column) => place('`', column),
  startsWith: (column, prefix) => `startswith(${column}, ${prefix})`,
}

/** What PyIceberg means by a predicate, in Postgres' words: to Arrow NaN is above nothing, and a null is none of a list; a list of one value is that value. */
export function asPyIceberg(predicate: Predicate): string {
  if ('of' in predicate) {
    return `(${predicate.of.map(asPyIceberg).join(predicate.op === 'and' ? ' AND ' : ' OR ')})`
  }
  const { column, op } = predicate
  const sql = toSql(predicate, postgres)
  const isFloat = column.kind === 'float' || column.kind === 'double'
  const name = postgres.column(column)
  if (isFloat && (op === '>' || op === '>=')) return `(${sql} AND ${name} <> 'NaN')`
  return op === 'not in' && predicate.values.length > 1 ? `(${sql} OR ${name} IS NULL)` : sql
}
