import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  appendValue,
  BatchBuilder,
  type Catalog,
  type Field,
  type FieldType,
  type TableSchema,
  type TableStorage,
  type Value,
} from '@moonlink/core'
import { LocalObjectStore, pathToFileUri } from '@moonlink/object-store'
import { afterAll, expect, test } from 'vitest'
import { FileCatalog } from '../catalog/file-catalog.ts'
import { ParquetWorkerPool } from '../parquet/worker-pool.ts'
import { roaringOf } from '../puffin/roaring.test.support.ts'
import { openTableStorage } from './open-table-storage.ts'
import { program } from './readers.test.support.ts'

const directory = mkdtempSync(join(tmpdir(), 'moonlink-evolution-'))
const pool = new ParquetWorkerPool({ workers: 1 })
afterAll(async () => {
  await pool.close()
  rmSync(directory, { recursive: true, force: true })
})

const store = new LocalObjectStore()
const TABLE = { schema: 'shop', name: 'evolving' }

function field(id: number, name: string, type: FieldType, initialDefault?: Value): Field {
  const defaults = initialDefault === undefined ? {} : { initialDefault, writeDefault: initialDefault }
  return { id, name, type, required: false, ...defaults }
}

const key = (type: FieldType): Field => ({ id: 1, name: 'id', type, required: true })
const text: FieldType = { kind: 'string' }
const decimal = (precision: number): FieldType => ({ kind: 'decimal', precision, scale: 2 })

const FIRST: TableSchema = {
  fields: [
    key({ kind: 'int' }),
    field(2, 'name', text),
    field(3, 'price', decimal(5)),
    field(4, 'ratio', { kind: 'float' }),
    field(5, 'gone', text),
  ],
  identifierFieldIds: [1],
}
/** `name` is renamed, `gone` dropped, one column of each type added with a default. */
const SECOND: TableSchema = {
  fields: [
    key({ kind: 'int' }),
    field(2, 'title', text),
    field(3, 'price', decimal(5)),
    field(4, 'ratio', { kind: 'float' }),
    field(6, 'd_text', text, "it's ✓"),
    field(7, 'd_int', { kind: 'int' }, -5),
    field(8, 'd_long', { kind: 'long' }, 2n ** 60n),
    field(9, 'd_double', { kind: 'double' }, 0.1),
    field(10, 'd_decimal', decimal(20), -1420n),
    field(11, 'd_date', { kind: 'date' }, 17_486),
    field(12, 'd_flag', { kind: 'boolean' }, true),
    field(13, 'd_at', { kind: 'timestamptz' }, 1_510_871_468_123_456n),
    field(14, 'd_none', text),
  ],
  identifierFieldIds: [1],
}
/** Numbers are widened, and a dropped name comes back as another column. */
const THIRD: TableSchema = {
  fields: [
    key({ kind: 'long' }),
    ...SECOND.fields.slice(1, 2),
    field(3, 'price', decimal(30)),
    field(4, 'ratio', { kind: 'double' }),
    ...SECOND.fields.slice(4),
    field(15, 'gone', { kind: 'int' }, 9),
    { ...field(16, 'must', text, 'always'), required: true },
  ],
  identifierFieldIds: [1],
}
const ADDED: readonly Value[] = ["it's ✓", -5, 2n ** 60n, 0.1, -1420n, 17_486, true, 1_510_871_468_123_456n, null]
const ADDED_TEXTS = ["it's ✓", '-5', '1152921504606846976', '0.1', '-14.20', '2017-11-16', 'true', '2017-11-16 22:31:08.123456', null]

/** A metadata file, and one of its older snapshots or null for the current one. */
type Moment = readonly [metadata: string, snapshotId: string | null]

/** A storage and what readers may open: the table before, across and after the changes. */
class Evolution {
  readonly storage: TableStorage
  readonly moments: Moment[] = []
  private lsn = 0n

  constructor(storage: TableStorage) {
    this.storage = storage
  }

  async commit(schema: TableSchema, rows: readonly (readonly Value[])[], vectors: { file: string; rows: number[] }[] = []): Promise<void> {
    const builder = new BatchBuilder(schema.fields)
    for (const row of rows) row.forEach((value, index) => appendValue(builder.builders[index], value))
    const addFiles = rows.length === 0 ? [] : [await this.storage.writeFile({ rows: builder.view(), rowIds: null, lastUpdated: null })]
    const snapshot = await this.storage.commit({
      kind: 'append',
      addFiles,
      removeFiles: [],
      vectors: vectors.map(({ file, rows: dead }) => ({ dataFile: file, bitmap: roaringOf(dead), cardinality: dead.length })),
      lsn: ++this.lsn,
      schema,
    })
    this.moments.push([snapshot.metadataLocation, null])
  }

  /** Puts all files into one of the present schema, as a compaction does. */
  async compact(schema: TableSchema): Promise<void> {
    const { files, vectors } = this.storage.snapshot
    const dead = new Map(vectors.map((vector) => [vector.dataFile, vector]))
    const builder = new BatchBuilder(schema.fields)
    for (const file of files) {
      if (dead.has(file.path)) continue
      for await (const scanned of this.storage.scanFile(file, schema.fields)) builder.appendRange(scanned.rows)
    }
    const live = files.filter((file) => !dead.has(file.path))
    const staged = await this.storage.writeFile({ rows: builder.view(), rowIds: null, lastUpdated: null })
    const snapshot = await this.storage.commit({
      kind: 'replace',
      addFiles: [staged],
      removeFiles: live.map((file) => file.path),
      vectors: [],
      lsn: this.lsn,
    })
    this.moments.push([snapshot.metadataLocation, null])
  }
}

const readAll = (moments: readonly Moment[], rows: string) => `
import json, datetime, decimal
def text(v):
    if v is None or isinstance(v, str): return v
    if isinstance(v, bool): return str(v).lower()
    if isinstance(v, datetime.datetime): return v.astimezone(datetime.timezone.utc).strftime('%Y-%m-%d %H:%M:%S.%f')
    return str(v)
${rows}
out = []
for m, snapshot in ${JSON.stringify(moments).replaceAll('null', 'None')}:
    names, found = rows(m, snapshot)
    out.append([names, sorted(([text(v) for v in r] for r in found), key=lambda r: int(r[0]))])
print('RESULT ' + json.dumps(out))
`

const readers = {
  PyIceberg: (moments: readonly Moment[]) =>
    program(
      'venv',
      readAll(
        moments,
        `
from pyiceberg.table import StaticTable
def rows(m, snapshot):
    t = StaticTable.from_metadata(m).scan(snapshot_id=snapshot and int(snapshot)).to_arrow()
    return t.column_names, [[r[n] for n in t.column_names] for r in t.to_pylist()]
`,
      ),
    ),
  DuckDB: (moments: readonly Moment[]) =>
    program(
      'venv',
      readAll(
        moments,
        `
import duckdb, importlib, os
c = duckdb.connect(config={'autoinstall_known_extensions': 'false'})
for e in ('avro', 'iceberg'):
    d = os.path.dirname(importlib.import_module(f'duckdb_extension_{e}').__file__)
    c.execute(f"LOAD '{d}/extensions/v{duckdb.__version__}/{e}.duckdb_extension'")
c.execute("SET TimeZone='UTC'")
def rows(m, snapshot):
    at = f', snapshot_from_id => {snapshot}' if snapshot else ''
    t = c.execute(f"SELECT * FROM iceberg_scan('{m}'{at})").to_arrow_table()
    return t.column_names, [[r[n] for n in t.column_names] for r in t.to_pylist()]
`,
      ),
    ),
  Spark: (moments: readonly Moment[]) =>
    program(
      'venv-spark',
      readAll(
        moments,
        `
import argparse, os, time
os.environ['TZ'] = 'UTC'; time.tzset()
from spark_common import session
s = session(argparse.Namespace(warehouse='/nowhere', uri=None, prop=[]))
def rows(m, snapshot):
    r = s.read.format('iceberg')
    d = (r.option('versionAsOf', snapshot) if snapshot else r).load(m)
    return d.columns, [list(r) for r in d.collect()]
`,
      ),
    ),
} as const

async function evolve(catalog: Catalog): Promise<Evolution> {
  const storage = await openTableStorage({ table: TABLE, schema: FIRST, catalog, store, parquet: pool })
  const evolution = new Evolution(storage)
  await evolution.commit(FIRST, [
    [1, 'one', 12_345n, 1.5, 'x'],
    [2, null, null, null, 'y'],
  ])
  await evolution.commit(SECOND, [])
  await evolution.commit(SECOND, [[3, 'three', 1n, 2.5, 'own', 3, 3n, 3, 3n, 3, false, 3n, 'set']])
  const [first] = storage.snapshot.files.filter((file) => file.recordCount === 2)
  await evolution.commit(THIRD, [[2n ** 40n, 'four', 10n ** 20n, 1e300, ...ADDED, null, 'given']], [{ file: first.path, rows: [1] }])
  return evolution
}

const added = (values: readonly (string | null)[]) => [...values]
const third = ['own', '3', '3', '3.0', '0.03', '1970-01-04', 'false', '1970-01-01 00:00:00.000003', 'set']
const SECOND_NAMES = SECOND.fields.map(({ name }) => name)
const THIRD_NAMES = THIRD.fields.map(({ name }) => name)
const EXPECTED = [
  [
    ['id', 'name', 'price', 'ratio', 'gone'],
    [
      ['1', 'one', '123.45', '1.5', 'x'],
      ['2', null, null, null, 'y'],
    ],
  ],
  [
    SECOND_NAMES,
    [
      ['1', 'one', '123.45', '1.5', ...added(ADDED_TEXTS)],
      ['2', null, null, null, ...added(ADDED_TEXTS)],
    ],
  ],
  [
    SECOND_NAMES,
    [
      ['1', 'one', '123.45', '1.5', ...added(ADDED_TEXTS)],
      ['2', null, null, null, ...added(ADDED_TEXTS)],
      ['3', 'three', '0.01', '2.5', ...third],
    ],
  ],
  [
    THIRD_NAMES,
    [
      ['1', 'one', '123.45', '1.5', ...added(ADDED_TEXTS), '9', 'always'],
      ['3', 'three', '0.01', '2.5', ...third, '9', 'always'],
      [String(2n ** 40n), 'four', '1000000000000000000.00', '1e+300', ...added(ADDED_TEXTS), null, 'given'],
    ],
  ],
] as const

test.each(Object.keys(readers) as (keyof typeof readers)[])(
  '%s reads the table before, across and after its schema changed',
  { timeout: 300_000 },
  async (reader) => {
    const evolution = await evolve(new FileCatalog({ store, warehouse: pathToFileUri(join(directory, reader)) }))
    await evolution.compact(THIRD)
    // The newest metadata still has every snapshot, each with the schema of its time.
    const { metadataLocation } = evolution.storage.snapshot
    const past = evolution.storage.retained().map(({ snapshotId }): Moment => [metadataLocation, String(snapshotId)])
    const seen = await readers[reader]([...evolution.moments, ...past.toReversed()])
    expect(seen).toEqual([...EXPECTED, EXPECTED[3], ...EXPECTED])
  },
)
