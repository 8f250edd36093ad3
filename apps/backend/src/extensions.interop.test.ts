import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres, type TestDatabase } from '@moonlink/testkit'
import { afterAll, describe, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { python } from './testing/readers.ts'

/**
 * PostGIS and pgvector from servers that have them, all the way: copied, streamed, updated, read by SQL, and at rest by readers that are not
 * ours. `.ci/interop` brings Debian's PostGIS for Postgres 15, and a Postgres with pgvector, which `MOONLINK_TEST_PGVECTOR_BIN` names.
 */
const directory = mkdtempSync(join(tmpdir(), 'moonlink-extensions-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const postgisBin = '/usr/lib/postgresql/15/bin'
const hasPostgis = existsSync(`${postgisBin}/postgres`) && existsSync('/usr/share/postgresql/15/extension/postgis.control')
const vectorBin = process.env['MOONLINK_TEST_PGVECTOR_BIN'] ?? ''
const hasVector = existsSync(join(vectorBin, 'postgres'))
if (!hasPostgis) console.warn('PostGIS IS NOT TESTED: no Postgres 15 of Debian that has it')
if (!hasVector) console.warn('pgvector IS NOT TESTED: MOONLINK_TEST_PGVECTOR_BIN does not name a Postgres that has it')

/** Prints the table's rows in the order of their ids, a list of JSON texts for each reader; bytes as hexadecimal. */
const readRows = `
import importlib, json, os, sys
import duckdb
from readers_common import local
from pyiceberg.table import StaticTable
con = duckdb.connect(config={"autoinstall_known_extensions": "false"})
for name in ("avro", "iceberg"):
    d = os.path.dirname(importlib.import_module("duckdb_extension_" + name).__file__)
    con.execute(f"LOAD '{d}/extensions/v{duckdb.__version__}/{name}.duckdb_extension'")
def rows(table):
    found = [list(row.values()) for row in table.to_pylist()]
    return sorted(found, key=lambda row: row[0])
plain = lambda value: value.hex() if isinstance(value, bytes) else str(value)
metadata = sys.argv[1]
print(json.dumps({
    "PyIceberg": rows(StaticTable.from_metadata(metadata).scan().to_arrow()),
    "DuckDB": rows(con.execute("SELECT * FROM iceberg_scan(?)", [local(metadata)]).to_arrow_table()),
}, default=plain))
`

const readBySpark = `
import json, sys
from types import SimpleNamespace
from spark_common import session
spark = session(SimpleNamespace(warehouse=None, uri=None, prop=[]))
rows = spark.read.format("iceberg").load(sys.argv[1]).orderBy("id").collect()
print(json.dumps([list(row) for row in rows], default=lambda value: value.hex() if isinstance(value, (bytes, bytearray)) else str(value)))
`

interface Kind {
  readonly extension: string
  /** Columns beside `id`: how each is declared, and the SQL for what its value is in the mirror. */
  readonly columns: Readonly<Record<string, { readonly type: string; readonly shown: string }>>
  /** Columns that are mirrored once more, as string. */
  readonly texts: readonly string[]
  /** What a row of the mirror's own SQL shows, as the readers have it. */
  readonly plain: (cell: unknown) => unknown
  readonly copied: readonly string[]
  readonly changes: readonly string[]
}

/** The shortest digits that name a float, as the float. */
function asFloats(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(asFloats)
  return typeof value === 'number' ? Math.fround(value) : value
}

/** Mirrors a table, changes it, and compares what SQL and the readers show with what Postgres prints. */
async function mirrors({ client, connectionString }: TestDatabase, kind: Kind): Promise<void> {
  const declared = Object.entries(kind.columns).map(([column, { type }]) => `${column} ${type}`)
  const strings = kind.texts.map((column) => `${column}_string ${kind.columns[column].type}`)
  const twins = kind.texts.map((column) => `NEW.${column}_string := NEW.${column};`)
  await client.query(`SET extra_float_digits = 3; CREATE EXTENSION ${kind.extension}`)
  await client.query(`CREATE TABLE things (id int PRIMARY KEY, ${[...declared, ...strings].join(', ')});
    CREATE FUNCTION twin() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${twins.join(' ')} RETURN NEW; END $$;
    CREATE TRIGGER twin BEFORE INSERT OR UPDATE ON things FOR EACH ROW EXECUTE FUNCTION twin()`)
  for (const row of kind.copied) await client.query(`INSERT INTO things VALUES ${row}`)
  const backend = await BackendProcess.start(['--source', connectionString, '--state-dir', join(directory, kind.extension)], {
    MOONLINK_SOURCE_COLUMNS: JSON.stringify({
      'public.things': Object.fromEntries(kind.texts.map((column) => [`${column}_string`, 'string'])),
    }),
  })
  const expected = async () => {
    const texts = kind.texts.map((column) => `CASE WHEN ${column} IS NOT NULL THEN format('%s', ${column}) END`)
    const shown = [...Object.values(kind.columns).map((column) => column.shown), ...texts]
    const sql = `SELECT jsonb_build_array(id, ${shown.join(', ')}) FROM things ORDER BY id`
    const { rows } = await client.query<[unknown]>({ text: sql, rowMode: 'array' })
    return rows.map(([row]) => asFloats(row))
  }
  const bySql = async () =>
    (await backend.query('SELECT * FROM public.things ORDER BY id')).map((row) => row.map((cell) => asFloats(kind.plain(cell))))
  try {
    const copied = await expected()
    expect(copied).toHaveLength(kind.copied.length)
    expect(await bySql()).toEqual(copied)
    for (const change of kind.changes) {
      await client.query(change)
      await backend.wait()
      expect(await bySql(), change).toEqual(await expected())
    }
    await backend.wait({ iceberg: true })
    const { metadataLocation, reason } = await backend.table('public.things')
    expect(reason).toBeNull()
    const rows = await expected()
    expect(rows).not.toEqual(copied)
    expect(await bySql()).toEqual(rows)
    expect(JSON.parse(await python('venv', ['-c', readRows, metadataLocation]))).toEqual({ PyIceberg: rows, DuckDB: rows })
    expect(JSON.parse(await python('venv-spark', ['-c', readBySpark, metadataLocation]))).toEqual(rows)
  } finally {
    await backend.stop()
  }
}

describe.skipIf(!hasPostgis)('PostGIS', () => {
  const postgres = withPostgres({ binDir: postgisBin })

  test('geometry and geography are the bytes of their extended well-known binary', { timeout: 300_000 }, async () => {
    const ewkb = (sql: string) => `encode(ST_AsEWKB(${sql}), 'hex')`
    await mirrors(await postgres.createDatabase(), {
      extension: 'postgis',
      columns: {
        at: { type: 'geometry(Point, 4326)', shown: ewkb('at') },
        shape: { type: 'geometry', shown: ewkb('shape') },
        area: { type: 'geography', shown: ewkb('area::geometry') },
        parts: {
          type: 'geometry[]',
          shown: `CASE WHEN parts IS NOT NULL THEN (SELECT coalesce(jsonb_agg(${ewkb('p')} ORDER BY n), '[]') FROM unnest(parts) WITH ORDINALITY u(p, n)) END`,
        },
      },
      texts: ['at', 'shape', 'area', 'parts'],
      plain: function plain(cell: unknown): unknown {
        if (Array.isArray(cell)) return cell.map(plain)
        return typeof cell === 'string' ? cell.replace(/^\\x/, '') : cell
      },
      copied: [
        `(1, 'SRID=4326;POINT(1.5 -2.25)', 'MULTILINESTRING((0 0,1 1),(2 2,3 3))', 'LINESTRING(-118 34,2 48)', ARRAY['POINT(5 6)'::geometry, NULL])`,
        `(2, NULL, 'GEOMETRYCOLLECTION EMPTY', NULL, '{}')`,
        `(3, 'SRID=4326;POINT EMPTY', 'SRID=3857;POINT ZM(1 2 3 4)', 'POLYGON((0 0,1 0,1 1,0 0))', NULL)`,
      ],
      changes: [
        // Large enough to lie out of line, where the next change leaves it.
        `INSERT INTO things SELECT 4, 'SRID=4326;POINT(7 8)', ST_Collect(ST_MakePoint(sqrt(n), ln(n))), ST_Buffer('POINT(1 2)'::geography, 100), ARRAY[ST_MakePoint(1, 2)] FROM generate_series(1, 2000) n`,
        `UPDATE things SET at = 'SRID=4326;POINT(9 9)' WHERE id IN (1, 4)`,
        `UPDATE things SET id = id + 10, area = NULL WHERE id IN (3, 4)`,
        `UPDATE things SET shape = ST_SetSRID('CIRCULARSTRING(0 0,1 1,2 0)'::geometry, 4326), parts = ARRAY['POINT(0 0)'::geometry] WHERE id = 1; DELETE FROM things WHERE id = 2`,
      ],
    })
  })
})

describe.skipIf(!hasVector)('pgvector', () => {
  const postgres = withPostgres({ binDir: vectorBin })

  test('vector and halfvec are lists of floats, sparsevec is its text', { timeout: 300_000 }, async () => {
    const list = (column: string) => `${column}::text::jsonb`
    await mirrors(await postgres.createDatabase(), {
      extension: 'vector',
      columns: {
        v: { type: 'vector(3)', shown: list('v') },
        large: { type: 'vector', shown: list('large') },
        half: { type: 'halfvec(2)', shown: list('half') },
        sparse: { type: 'sparsevec(5)', shown: 'sparse::text' },
      },
      texts: ['v', 'large', 'half'],
      plain: (cell) => cell,
      copied: [
        `(1, '[1,2.5,-3]', '[0.5]', '[1.5,-65504]', '{1:1.5,3:-2}/5')`,
        `(2, NULL, NULL, NULL, NULL)`,
        `(3, '[0,0,0]', '[1,2]', '[0.000061035156,0]', '{}/5')`,
      ],
      changes: [
        `INSERT INTO things SELECT 4, '[7,8,9]', array_agg(n::real / 8)::vector, '[2,3]', '{5:7}/5' FROM generate_series(1, 2000) n`,
        `UPDATE things SET v = '[0.25,0,-1]' WHERE id IN (1, 4)`,
        `UPDATE things SET id = id + 10, half = NULL WHERE id IN (3, 4)`,
        `UPDATE things SET sparse = '{2:0.5}/5', large = '[8,9,10.5]' WHERE id = 1; DELETE FROM things WHERE id = 2`,
      ],
    })
  })
})
