import { ColumnBuilder, isMoonlinkError, valueAt, type FieldType, type Value } from '@moonlink/core'
import { withPostgres } from '@moonlink/testkit'
import fc from 'fast-check'
import type pg from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { readTables } from '../session/catalog-rows.ts'
import type { DecodeValue } from './decoder.ts'
import { drawnExtensionTypes, drawnTypes, type DrawnType } from './drawn-values.test.support.ts'
import { defaultMapping, mapColumn, type MappedColumn } from './mapping.ts'
import { Oid } from './oids.ts'
import { knownExtensionTypes } from './scalar-types.ts'
import { joinTypes, type SourceType, type TypeUse } from './source-type.ts'

/**
 * Values drawn of every type that the product knows, and of types made of those: the binary form as text is what Postgres prints, both forms are the same value, and Postgres,
 * given that value, prints the same text.
 */
const server = withPostgres()
let client: pg.Client
/** By name; of extensions those that the server has. */
const known = new Map<string, DrawnType>(Object.entries(drawnTypes))
/** Names of those that a range can be of. */
let ordered: readonly string[]

/** A type as it is made. */
type Shape =
  | { readonly kind: 'scalar'; readonly name: string; readonly declared: string }
  | { readonly kind: 'enum'; readonly labels: readonly string[] }
  | { readonly kind: 'domain' | 'range' | 'multirange'; readonly of: Shape }
  | { readonly kind: 'array'; readonly of: Shape; readonly dimensions: number; readonly lowest: number }
  | { readonly kind: 'composite'; readonly parts: readonly Shape[] }

const scalarNamed = (name: string): fc.Arbitrary<Shape> => known.get(name)!.declared.map((declared) => ({ kind: 'scalar', name, declared }))

/** Types within types; arrays have no arrays as elements but through a domain. */
function shapes(): fc.Arbitrary<Shape> {
  const scalar = fc.constantFrom(...known.keys()).chain(scalarNamed)
  const bound = fc.constantFrom(...ordered).chain(scalarNamed)
  const labels = fc.uniqueArray(fc.constantFrom('a', '', 'so "very"', 'x,y', 'ü', '(', 'NULL', 'back\\slash', "it's"), { minLength: 1 })
  const { shape } = fc.letrec<{ shape: Shape; whole: Shape }>((tie) => ({
    whole: fc.oneof(
      { maxDepth: 3 },
      { weight: 4, arbitrary: scalar },
      { weight: 1, arbitrary: labels.map((drawn): Shape => ({ kind: 'enum', labels: drawn })) },
      { weight: 1, arbitrary: bound.map((of): Shape => ({ kind: 'range', of })) },
      { weight: 1, arbitrary: bound.map((of): Shape => ({ kind: 'multirange', of: { kind: 'range', of } })) },
      { weight: 2, arbitrary: tie('shape').map((of): Shape => ({ kind: 'domain', of })) },
      {
        weight: 3,
        arbitrary: fc.array(tie('shape'), { minLength: 1, maxLength: 4 }).map((parts): Shape => ({ kind: 'composite', parts })),
      },
    ),
    shape: fc.oneof(
      { maxDepth: 3 },
      { weight: 3, arbitrary: tie('whole') },
      {
        weight: 2,
        arbitrary: fc
          .tuple(tie('whole'), fc.integer({ min: 1, max: 3 }), fc.constantFrom(1, 1, 1, 0, -5))
          .map(([of, dimensions, lowest]): Shape => ({ kind: 'array', of, dimensions, lowest })),
      },
    ),
  }))
  return shape
}

/** A shape that has a name, and values of it as SQL. */
interface Declared {
  readonly sql: string
  readonly value: fc.Arbitrary<string>
}

/** Appends to `ddl` what has to be made first. */
function declare(shape: Shape, ddl: string[]): Declared {
  const made = (kind: string, definition: (name: string) => string) => {
    const name = `drawn_${kind}_${ddl.length}`
    ddl.push(definition(name))
    return name
  }
  switch (shape.kind) {
    case 'scalar': {
      const { declared, name } = shape
      const { value, fitting } = known.get(name)!
      return { sql: declared, value: (fitting?.(declared) ?? value).map((sql) => `(${sql})::${declared}`) }
    }
    case 'enum': {
      const labels = shape.labels.map((label) => `'${label.replaceAll("'", "''")}'`)
      const name = made('enum', (own) => `CREATE TYPE ${own} AS ENUM (${labels.join(', ')})`)
      return { sql: name, value: fc.constantFrom(...labels).map((label) => `${label}::${name}`) }
    }
    case 'domain': {
      const base = declare(shape.of, ddl)
      const name = made('domain', (own) => `CREATE DOMAIN ${own} AS ${base.sql}`)
      return { sql: name, value: base.value.map((value) => `(${value})::${name}`) }
    }
    case 'range': {
      const bound = declare(shape.of, ddl)
      const name = made('range', (own) => {
        return `CREATE TYPE ${own} AS RANGE (subtype = ${bound.sql.replace(/\(.*/, '')}, multirange_type_name = ${own}_many)`
      })
      const either = fc.option(bound.value, { nil: 'NULL' })
      const value = fc
        .tuple(either, either, fc.constantFrom('[]', '()', '[)', '(]'))
        .map(([a, b, ends]) =>
          a === 'NULL' || b === 'NULL' ? `${name}(${a}, ${b}, '${ends}')` : `${name}(least(${a}, ${b}), greatest(${a}, ${b}), '${ends}')`,
        )
      return { sql: name, value: fc.oneof({ weight: 1, arbitrary: fc.constant(`'empty'::${name}`) }, { weight: 6, arbitrary: value }) }
    }
    case 'multirange': {
      const range = declare(shape.of, ddl)
      const name = `${range.sql}_many`
      return { sql: name, value: fc.array(range.value, { maxLength: 3 }).map((ranges) => `${name}(${ranges.join(', ')})`) }
    }
    case 'array': {
      const element = declare(shape.of, ddl)
      const name = `${element.sql}${'[]'.repeat(shape.dimensions)}`
      return { sql: name, value: arrayOf(element, name, shape) }
    }
    case 'composite': {
      const parts = shape.parts.map((part) => declare(part, ddl))
      const name = made('row', (own) => `CREATE TYPE ${own} AS (${parts.map(({ sql }, index) => `"p ${index}" ${sql}`).join(', ')})`)
      const cells = parts.map(({ value }) => fc.option(value, { nil: 'NULL' }))
      return { sql: name, value: fc.tuple(...cells).map((values) => `ROW(${values.join(', ')})::${name}`) }
    }
  }
}

function arrayOf(element: Declared, name: string, { dimensions, lowest }: { dimensions: number; lowest: number }): fc.Arbitrary<string> {
  const cell = fc.option(element.value, { nil: 'NULL' })
  const level = (sizes: readonly number[]): fc.Arbitrary<string> => {
    if (sizes.length === 0) return cell
    return fc.array(level(sizes.slice(1)), { minLength: sizes[0], maxLength: sizes[0] }).map((items) => `ARRAY[${items.join(', ')}]`)
  }
  const filled = fc.array(fc.integer({ min: 1, max: 3 }), { minLength: dimensions, maxLength: dimensions }).chain((sizes) => {
    const bounds = sizes.map((size) => `[${lowest}:${lowest + size - 1}]`).join('')
    return level(sizes).map((sql) => (lowest === 1 ? `(${sql})::${name}` : `('${bounds}=' || (${sql})::${name}::text)::${name}`))
  })
  return fc.oneof({ weight: 1, arbitrary: fc.constant(`'{}'::${name}`) }, { weight: 5, arbitrary: filled })
}

/** A column of a run: how it is declared, what it is mirrored as, and its values. */
interface Drawn {
  readonly shape: Shape
  readonly seed: number
}

const settings = `SET datestyle = ISO; SET intervalstyle = postgres; SET bytea_output = hex; SET extra_float_digits = 3; SET timezone = UTC; SET xmlbinary = base64`

beforeAll(async () => {
  client = (await server.createDatabase()).client
  await client.query(settings)
  for (const [type, drawn] of Object.entries(drawnExtensionTypes)) {
    const [extension, name] = type.split('.') as [string, string]
    const { rows } = await client.query(`SELECT FROM pg_available_extensions WHERE name = $1`, [extension])
    if (rows.length === 0) continue
    await client.query(`CREATE EXTENSION IF NOT EXISTS ${extension}`)
    known.set(name, drawn)
  }
  const { rows } = await client.query<{ name: string }>(
    `SELECT typname AS name FROM pg_type t WHERE EXISTS (SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = opcmethod WHERE amname = 'btree' AND opcdefault AND opcintype = t.oid)`,
  )
  ordered = [...rows.map(({ name }) => name), 'varchar'].filter((name) => known.has(name) && name !== 'xid')
})

test('values are drawn of every type whose form is known here', () => {
  expect(Object.keys(drawnTypes).sort()).toEqual(Object.keys(Oid).sort())
  expect(Object.keys(drawnExtensionTypes).sort()).toEqual([...knownExtensionTypes].sort())
})

let runs = 0

/** Makes a table of the columns, fills it, and compares. */
async function check(columns: readonly Drawn[], count: number): Promise<void> {
  const ddl: string[] = []
  const declared = columns.map(({ shape }) => declare(shape, ddl))
  const values = declared.map(({ value }, index) => fc.sample(value, { numRuns: count, seed: columns[index].seed }))
  const schema = `run_${++runs}`
  const rows = Array.from({ length: count }, (_, row) => `(${values.map((of) => of[row]).join(', ')})`)
  await client.query(`CREATE SCHEMA ${schema}; SET search_path = ${schema}, public`)
  for (const statement of ddl) await client.query(statement)
  await client.query(`CREATE TABLE drawn (${declared.map(({ sql }, index) => `c${index} ${sql}`).join(', ')})`)
  await client.query(`INSERT INTO drawn VALUES ${rows.join(', ')}`)
  const query = async <T>(sql: string, parameters: readonly unknown[]) => (await client.query(sql, [...parameters])).rows as T[]
  const [relation] = await readTables({ rows: query }, [{ schema, name: 'drawn' }])
  const typeOf = joinTypes(relation.types)
  for (const column of relation.columns) {
    await compare(schema, { ...column, type: typeOf(column.typeOid), required: false, isKey: false })
  }
  await client.query(`DROP SCHEMA ${schema} CASCADE`)
}

async function compare(schema: string, column: Parameters<typeof mapColumn>[1]): Promise<void> {
  const table = { schema, name: 'drawn' }
  const as = (rule: object) =>
    mapColumn(table, column, {
      ...defaultMapping,
      policy: { ...defaultMapping.policy, columns: { [`${schema}.drawn`]: { [column.name]: rule } } },
    })
  const native = refusable(() => as({}))
  // Parts whose text does not tell the value, beside others that have to be asked for as text.
  if (native === null) return
  const [text, nulled] = [as({ as: 'string' }), as({ onUnfit: 'null' })]
  const beside = refusable(() => as({ onUnfit: 'text' }))
  const form = native.copyForm
  const found = await forms(column.name, column.type)
  const again: { expected: string; sql: string }[] = []
  for (const { printed, binary } of found) {
    const bytes = Buffer.from(printed)
    const what = `${column.typeName}: ${printed}`
    const sent = form === 'binary' ? binary : bytes
    const value = decode(native, native.decoder[form], sent)
    if (native.streamForm === 'any') expect([what, decode(native, native.decoder.text, bytes)]).toEqual([what, value])
    if (text.copyForm === 'binary') expect(decode(text, text.decoder.binary, binary)).toBe(printed)
    expect(decode(text, text.decoder.text, bytes)).toBe(printed)
    const nulls = decode(nulled, nulled.decoder[form], sent)
    expect([what, nulls === 'unfit']).toEqual([what, false])
    if (value !== 'unfit') expect([what, nulls]).toEqual([what, value])
    if (beside?.textField && beside.copyForm === 'binary')
      expect(decode(beside, beside.textDecoder.binary, binary, { kind: 'string' })).toBe(printed)
    if (value !== 'unfit') again.push({ expected: printed, sql: sqlOf(column, native.field.type, value) })
  }
  const type = await declaredType(schema, column.name)
  const { rows } = await client.query<string[]>({
    text: `SELECT ${again.map(({ sql }) => `format('%s', (${sql})::${type})`).join(', ') || '1'}`,
    rowMode: 'array',
  })
  if (again.length > 0) expect(rows[0]).toEqual(again.map(({ expected }) => expected))
}

/** Null where a rule asks for what can't be. */
function refusable(map: () => MappedColumn): MappedColumn | null {
  try {
    return map()
  } catch (error) {
    if (isMoonlinkError(error, 'invalid')) return null
    throw error
  }
}

async function declaredType(schema: string, name: string): Promise<string> {
  const { rows } = await client.query<{ type: string }>(
    `SELECT format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = '${schema}.drawn'::regclass AND attname = $1`,
    [name],
  )
  return rows[0].type
}

/** Values of a column in both forms, as COPY and pgoutput send them. */
async function forms(name: string, type: SourceType): Promise<{ printed: string; binary: Buffer }[]> {
  const { rows: found } = await client.query<{ send: string }>(`SELECT typsend::oid::regproc::text AS send FROM pg_type WHERE oid = $1`, [
    type.oid,
  ])
  const plain = type.base === null ? name : `${name}::${nameOf(withoutDomain(type))}`
  const call = found[0].send === 'textsend' ? `textsend(${name}::text)` : `${found[0].send}(${plain})`
  const { rows } = await client.query<{ printed: string; binary: Buffer }>(
    `SELECT format('%s', ${name}) AS printed, ${call} AS binary FROM drawn`,
  )
  return rows
}

function decode(column: MappedColumn, how: DecodeValue, bytes: Buffer, type: FieldType = column.field.type): Value {
  const builder = new ColumnBuilder(type)
  try {
    // Other bytes around the value must not be read.
    how(Buffer.concat([Buffer.alloc(3, 0x39), bytes, Buffer.alloc(3, 0x39)]), 3, 3 + bytes.length, builder)
  } catch (error) {
    if (error instanceof Error && error.name === 'BadValueError') return 'unfit'
    throw error
  }
  return valueAt(builder.view(), 0)
}

/** A mirrored value as SQL of the type that it came from. */
function sqlOf({ type, dimensions }: Pick<TypeUse, 'type' | 'dimensions'>, held: FieldType, value: Value): string {
  if (value === null) return 'NULL'
  if (type.base !== null) {
    const { base } = type
    return `(${sqlOf({ type: base.type, dimensions: dimensions || base.dimensions }, held, value)})::${nameOf(type)}`
  }
  const { element } = type
  if (held.kind === 'list' && element !== null) {
    const level = (items: Value, of: FieldType, left: number): string => {
      if (left === 0 || of.kind !== 'list') return sqlOf({ type: element, dimensions: 0 }, of, items)
      return `ARRAY[${(items as readonly Value[]).map((item) => level(item, of.element, left - 1)).join(', ')}]`
    }
    const isEmpty = (value as readonly Value[]).length === 0
    return isEmpty ? `'{}'::${nameOf(type)}` : `${level(value, held, Math.max(1, dimensions))}::${nameOf(type)}`
  }
  if (held.kind === 'struct') {
    const parts = (value as readonly Value[]).map((part, index) => sqlOf(type.attributes[index], held.fields[index].type, part))
    return `ROW(${parts.join(', ')})::${nameOf(type)}`
  }
  return `${scalarSql(type, held, value)}::${nameOf(type)}`
}

const withoutDomain = (type: SourceType): SourceType => (type.base === null ? type : withoutDomain(type.base.type))
const nameOf = (type: SourceType): string => (type.element !== null ? `${nameOf(type.element)}[]` : `"${type.schema}"."${type.name}"`)

function scalarSql(type: SourceType, held: FieldType, value: Value): string {
  const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`
  switch (held.kind) {
    case 'date':
      return `('1970-01-01'::date + (${value as number}))`
    case 'timestamp':
    case 'timestamptz': {
      const micros = value as bigint
      const within = ((micros % 86_400_000_000n) + 86_400_000_000n) % 86_400_000_000n
      const stamp = `('1970-01-01'::date + (${(micros - within) / 86_400_000_000n}) + '${within / 1_000_000n}.${String(within % 1_000_000n).padStart(6, '0')} secs'::interval)`
      return held.kind === 'timestamp' ? stamp : `(${stamp} AT TIME ZONE 'UTC')`
    }
    case 'decimal':
      return `(${quoted(String(value))}::numeric * ${quoted(`1e-${held.scale}`)}::numeric)${type.oid === Oid.money ? '' : `::text`}`
    case 'binary':
    case 'uuid': {
      const hex = Buffer.from(value as Uint8Array).toString('hex')
      return quoted(held.kind === 'uuid' || type.oid !== Oid.bytea ? hex : `\\x${hex}`)
    }
    case 'list': {
      const items = (value as readonly Value[]).map(String)
      return quoted(type.oid === Oid.int2vector || type.oid === Oid.oidvector ? items.join(' ') : `[${items.join(',')}]`)
    }
    default:
      return quoted(Object.is(value, -0) ? '-0' : String(value))
  }
}

test('every type whose form is known here, one column each', { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.tuple(...[...known.keys()].map((name) => fc.record({ shape: scalarNamed(name), seed: fc.integer() }))), (columns) =>
      check(columns, 15),
    ),
    { numRuns: 3, endOnFailure: true },
  )
})

test(
  'types made of those: domains, enums, ranges, multiranges, composites and arrays within each other',
  { timeout: 240_000 },
  async () => {
    const columns = fc.array(fc.record({ shape: shapes(), seed: fc.integer() }), { minLength: 1, maxLength: 8 })
    await fc.assert(
      fc.asyncProperty(columns, (drawn) => check(drawn, 6)),
      { numRuns: 25, endOnFailure: true },
    )
  },
)
