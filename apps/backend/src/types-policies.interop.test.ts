import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { read } from './testing/readers.ts'

/** Each policy and each other `as` of docs/TYPES.md, by readers that we did not write. */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-policies-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

type Reader = 'pyiceberg_read' | 'duckdb_read' | 'spark_read'

/** Columns that show something together; in their table they carry the group's name before their own. */
interface Group {
  readonly name: string
  /** `name type` */
  readonly columns: readonly string[]
  /** As rows of VALUES, without the key. */
  readonly rows: readonly string[]
  /** What the Iceberg table must hold, as Postgres says it; where nothing is said, the column as it is. */
  readonly shown: Readonly<Record<string, string>>
  readonly rules: Readonly<Record<string, unknown>>
}

const ALL: readonly Reader[] = ['pyiceberg_read', 'duckdb_read', 'spark_read']
const STRANGE = ['n numeric(10,2)', 'ns numeric(10,2)[]', 'd date', 'ts timestamp', 'tz timestamptz', 'a int[]', 'part strange']
const STRANGE_ROWS = [
  `1.5, '{1,2}', '2024-01-01', '2024-01-01 12:00', '2024-01-01 12:00Z', '{1}', ROW('2024-01-01', '{1}')`,
  `'NaN', '{1,NaN,NULL}', 'infinity', '-infinity', 'infinity', '{{1}}', ROW('infinity', '{1}')`,
  `NULL, NULL, NULL, '294276-12-31', '294276-12-31Z', '[0:1]={5,6}', ROW(NULL, '{{1}}')`,
  `-99999999.99, '{}', '4713-01-01 BC', '4713-01-01 BC', '0044-03-15 BC', '{}', NULL`,
]
const LAST = `timestamp '294247-01-10 04:00:54.775806'`
const isFinite = (column: string, type = 'timestamp') =>
  `(${column} > '-infinity' AND ${column} < 'infinity' AND ${column} <= ${type === 'timestamptz' ? `(${LAST} AT TIME ZONE 'UTC')` : LAST})`
/** What fits of the rows above, column by column. */
const FITS: readonly (readonly [column: string, condition: string])[] = [
  ['n', `n <> 'NaN'`],
  ['ns', `NOT 'NaN' = ANY (ns) IS TRUE`],
  ['d', `d > '-infinity' AND d < 'infinity'`],
  ['ts', isFinite('ts')],
  ['tz', isFinite('tz', 'timestamptz')],
  ['a', `a = '{}' OR (array_ndims(a) = 1 AND array_lower(a, 1) = 1)`],
  ['part', `((part).since IS NULL OR isfinite((part).since)) AND coalesce(array_ndims((part).tags), 1) = 1`],
]

const NONE = (count: number) => Array.from({ length: count }, () => 'NULL').join(', ')
const TEXTS = [
  'b bool',
  'i int',
  'l bigint',
  'f float8',
  'n numeric(8,2)',
  'm money',
  'd date',
  't time',
  'ts timestamp',
  'tz timestamptz',
  'u uuid',
  'by bytea',
  'j jsonb',
  'a int[]',
  'aa int[]',
  'part strange',
  'r int4range',
  'o oid',
  'x xid8',
  'v int2vector',
  'iv interval',
  'ttz timetz',
  'h hstore',
  'bits varbit',
]
const nameOf = (column: string) => column.slice(0, column.indexOf(' '))

const groups: readonly Group[] = [
  {
    name: 'beside',
    columns: STRANGE,
    rows: STRANGE_ROWS,
    shown: Object.fromEntries(
      FITS.flatMap(([column, fits]) => [
        [column, `CASE WHEN ${fits} THEN ${column} END`],
        [`${column}_text`, `CASE WHEN NOT coalesce(${fits}, true) THEN format('%s', ${column}) END`],
      ]),
    ),
    rules: Object.fromEntries(FITS.map(([column]) => [column, { onUnfit: 'text' }])),
  },
  {
    name: 'nulled',
    columns: STRANGE,
    rows: STRANGE_ROWS,
    shown: {
      ...Object.fromEntries(FITS.map(([column, fits]) => [column, `CASE WHEN ${fits} THEN ${column} END`])),
      ns: `array_replace(ns, 'NaN', NULL)`,
      a: `CASE WHEN array_ndims(a) = 2 THEN NULL WHEN a = '{}' THEN a ELSE (SELECT array_agg(x ORDER BY o) FROM unnest(a) WITH ORDINALITY AS u(x, o)) END`,
      part: `CASE WHEN part IS DISTINCT FROM NULL THEN ROW(CASE WHEN isfinite((part).since) THEN (part).since END, CASE WHEN coalesce(array_ndims((part).tags), 1) = 1 THEN (part).tags END)::strange END`,
    },
    rules: { ...Object.fromEntries(FITS.map(([column]) => [column, { onUnfit: 'null' }])), a: { onUnfit: 'null', lowerBounds: 'drop' } },
  },
  {
    name: 'decimals',
    columns: ['free numeric', 'wide numeric(60, 3)', 'narrow numeric(5, 2)', 'many numeric[]', 'priced price'],
    rows: [
      `1.5, 12345678901234567890.125, 1.25, '{1,2.5,NULL}', 3`,
      `'NaN', 'NaN', NULL, '{NaN}', -1`,
      `1e30, 1e50, -999.99, '{}', 0.01`,
      `1e-20, NULL, 0, NULL, NULL`,
    ],
    shown: {
      // Of the rows above, the first has values that fit.
      free: `CASE WHEN id % 10 = 0 THEN free::numeric(38, 10) END`,
      wide: `CASE WHEN id % 10 = 0 THEN wide END`,
      narrow: `narrow::numeric(38, 4)`,
      many: `array_replace(many, 'NaN', NULL)::numeric(20, 2)[]`,
      priced: `priced::numeric`,
    },
    rules: {
      free: { as: 'decimal(38,10)', onUnfit: 'null' },
      wide: { as: 'decimal(38,3)', onUnfit: 'null' },
      narrow: 'decimal(38,4)',
      many: { as: 'list<decimal(20,2)>', onUnfit: 'null' },
    },
  },
  {
    name: 'grids',
    columns: ['grid int[]', 'cube int[]', 'jagged text[]'],
    rows: [`'{{1,2},{3,NULL}}', '{{{1},{2}}}', '{{a,b}}'`, `'{}', '{}', '{}'`, NONE(3), `'{{4}}', '{{{5,6}}}', '{{c},{NULL}}'`],
    shown: {},
    rules: { grid: 'list<list>', cube: 'list<list<list>>', jagged: 'list<list<string>>' },
  },
  {
    name: 'bounds',
    columns: ['beside int[]', 'counted int[]', 'grid int[]'],
    rows: [
      `'[0:1]={5,6}', '[-2147483648:-2147483647]={1,NULL}', '[0:0][5:6]={{1,2}}'`,
      `'{1}', '[2147483646:2147483646]={7}', '[1:1][2:2]={{NULL}}'`,
      NONE(3),
      `'[2:2]={NULL}', '{}', '{}'`,
    ],
    shown: {
      beside: `CASE WHEN coalesce(array_lower(beside, 1), 1) = 1 THEN beside END`,
      beside_text: `CASE WHEN array_lower(beside, 1) <> 1 THEN format('%s', beside) END`,
      ...Object.fromEntries(
        ['counted', 'grid'].map((column) => [
          column,
          `CASE WHEN ${column} IS NOT NULL THEN regexp_replace(format('%s', ${column}), '^.*=', '')::int[] END`,
        ]),
      ),
    },
    rules: { beside: { onUnfit: 'text' }, counted: { lowerBounds: 'drop' }, grid: { as: 'list<list>', lowerBounds: 'drop' } },
  },
  {
    name: 'texts',
    columns: TEXTS,
    rows: [
      `true, 1, -9223372036854775808, 'NaN', 'NaN', 12.34, 'infinity', '24:00', '-infinity', '294276-12-31Z', '00000000-0000-4000-8000-00000000000a', '\\x00ff',
       '{"a": 1.50}', '{1,NULL}', '[0:1]={5,6}', ROW('infinity', '{{1}}'), '[1,3)', 4294967295, '18446744073709551615', '1 2', '1 mon -1 day', '24:00-15:59', 'a=>NULL', '101'`,
      `false, 0, 0, 1e-7, 0, -0.01, '0044-03-15 BC', '00:00:00.000001', '2024-01-01', '2024-01-01 00:00:00.1+05:30', NULL, '',
       'null', '{}', '{{1},{2}}', ROW(NULL, NULL), 'empty', 0, '0', '', '0', '00:00+00', '', ''`,
      NONE(TEXTS.length),
      NONE(TEXTS.length),
    ],
    shown: Object.fromEntries(
      TEXTS.map(nameOf).map((column) => [column, `CASE WHEN num_nulls(${column}) = 0 THEN format('%s', ${column}) END`]),
    ),
    rules: Object.fromEntries(TEXTS.map((column) => [nameOf(column), 'string'])),
  },
]

/** Spark can't load a table that has a `time`. */
const times: Group = {
  name: 'times',
  columns: ['t time', 'tt time[]', 'late time'],
  rows: [`'12:00:00.000001', '{00:00,23:59:59.999999,NULL}', '24:00'`, `'00:00', '{}', '01:00'`, NONE(3), NONE(3)],
  shown: { late: `CASE WHEN late < '24:00' THEN late END`, late_text: `CASE WHEN late = '24:00' THEN '24:00:00' END` },
  rules: { t: 'time', tt: 'list<time>', late: { as: 'time', onUnfit: 'text' } },
}

/** A table of groups, filled, and the view `shown_<name>` of what its mirror must hold. */
async function make(client: { query(sql: string): Promise<unknown> }, name: string, of: readonly Group[]): Promise<void> {
  const columns = of.flatMap((group) => group.columns.map((column) => `${group.name}_${column}`))
  await client.query(`CREATE TABLE ${name} (id int PRIMARY KEY, ${columns.join(', ')})`)
  const shown = of.map((group) => {
    const own = group.columns.map(nameOf)
    const outputs = { ...Object.fromEntries(own.map((column) => [column, column])), ...group.shown }
    const list = Object.entries(outputs).map(([output, expression]) => `${expression} AS ${group.name}_${output}`)
    const raw = own.map((column) => `${group.name}_${column} AS ${column}`)
    return `LATERAL (SELECT ${list.join(', ')} FROM (SELECT id, ${raw.join(', ')}) AS raw) AS of_${group.name}`
  })
  await client.query(
    `CREATE VIEW shown_${name} AS SELECT id, ${of.map((group) => `of_${group.name}.*`).join(', ')} FROM ${name}, ${shown.join(', ')}`,
  )
  await fill(client, name, of, 0)
}

async function fill(client: { query(sql: string): Promise<unknown> }, name: string, of: readonly Group[], from: number): Promise<void> {
  const rows = of[0].rows.map((_, index) => `(${from + index}, ${of.map((group) => group.rows[index]).join(', ')})`)
  await client.query(`INSERT INTO ${name} VALUES ${rows.join(', ')}`)
}

const rulesOf = (of: readonly Group[]) =>
  Object.fromEntries(of.flatMap(({ name, rules }) => Object.entries(rules).map(([column, rule]) => [`${name}_${column}`, rule])))

test(
  'what each policy and each other type makes of values is what Postgres makes of them, for every reader that has the type',
  { timeout: 600_000 },
  async () => {
    const { client, connectionString } = await postgres.createDatabase()
    await client.query(`SET timezone = UTC; SET extra_float_digits = 3; CREATE EXTENSION hstore;
    CREATE TYPE strange AS (since date, tags int[]); CREATE DOMAIN price AS numeric`)
    const tables: readonly (readonly [name: string, of: readonly Group[], readers: readonly Reader[]])[] = [
      ['policies', groups, ALL],
      ['times', [times], ALL.filter((reader) => reader !== 'spark_read')],
    ]
    for (const [name, of] of tables) await make(client, name, of)
    const backend = await BackendProcess.start(['--source', connectionString, '--state-dir', join(directory, 'state')], {
      MOONLINK_SOURCE_COLUMNS: JSON.stringify(Object.fromEntries(tables.map(([name, of]) => [`public.${name}`, rulesOf(of)]))),
      MOONLINK_SOURCE_TYPES: JSON.stringify({ 'public.price': { as: 'decimal(12,2)' } }),
    })
    try {
      for (const [name, of] of tables) {
        await fill(client, name, of, 10)
        await client.query(`UPDATE ${name} SET id = id + 10 WHERE id = 10; DELETE FROM ${name} WHERE id = 12`)
      }
      await backend.wait({ iceberg: true })
      for (const [name, , readers] of tables) {
        const { metadataLocation, reason } = await backend.table(`public.${name}`)
        expect(reason).toBeNull()
        const source = await read('pg_read', ['--dsn', connectionString, '--schema-from', metadataLocation, `public.shown_${name}`])
        expect([source.unrepresentable, source.row_count]).toEqual([{}, 7])
        const expected = { row_count: source.row_count, checksum: source.checksum }
        for (const reader of readers) {
          expect.soft(await read(reader, ['--metadata', metadataLocation]), `${name}: ${reader}`).toMatchObject(expected)
        }
      }
    } finally {
      await backend.stop()
    }
  },
)
