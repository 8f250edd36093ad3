import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withPostgres } from '@moonlink/testkit'
import { afterAll, expect, test } from 'vitest'
import { BackendProcess } from './testing/backend-process.ts'
import { python } from './testing/readers.ts'

/** What docs/TYPES.md says of variants, by readers that we did not write. */
const postgres = withPostgres()
const directory = mkdtempSync(join(tmpdir(), 'moonlink-variants-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** JSON whose text is one and the same where the values are: keys in order, numbers without zeros at their end. */
const normal = `
import json, sys
from decimal import Decimal
def plain(v):
    if isinstance(v, Decimal): return "#" + format(v.normalize() if v else Decimal(0), "f")
    if isinstance(v, dict): return {k: plain(x) for k, x in v.items()}
    return [plain(x) for x in v] if isinstance(v, list) else v
import decimal; decimal.getcontext().prec = 60
def normal(text): return None if text is None else json.dumps(plain(json.loads(text, parse_float=Decimal, parse_int=Decimal)), sort_keys=True)
def print_rows(rows): print(json.dumps([[r[0]] + [normal(t) for t in r[1:]] for r in rows]))
`
const spark = `${normal}
from spark_common import session
from types import SimpleNamespace
s = session(SimpleNamespace(warehouse=None, uri=None, prop=[]))
s.read.format("iceberg").load(sys.argv[1]).createOrReplaceTempView("t")
print_rows([tuple(r) for r in s.sql("""SELECT id, to_json(v), to_json(j), to_json(h.v) FROM t ORDER BY id""").collect()])
s.read.format("iceberg").load(sys.argv[2]).createOrReplaceTempView("lists")
print_rows([tuple(r) for r in s.sql("""SELECT id, to_json(try_element_at(vs, 1)), to_json(try_element_at(vs, 2)),
  to_json(try_element_at(hs, 2).v), to_json(try_element_at(b.vs, 1)), to_json(try_element_at(try_element_at(grid, 2), 1)) FROM lists ORDER BY id""").collect()])
print(json.dumps([tuple(r) for r in s.sql("""SELECT id, v IS NULL, is_variant_null(v), variant_get(v, '$.n', 'decimal(38,10)') = 1.5,
  variant_get(v, '$.k40', 'int'), schema_of_variant(v) FROM t WHERE id < 8 ORDER BY id""").collect()]))
def ids(vectorized): return sorted(r[0] for r in s.read.format("iceberg").option("vectorization-enabled", vectorized).load(sys.argv[2]).select("id").collect())
try: print(json.dumps(ids("true")))
except Exception as e: print(json.dumps([str(e), ids("false")]))
`
const duckdb = `${normal}
import importlib, os, re, duckdb
c = duckdb.connect(config={"autoinstall_known_extensions": "false"})
for e in ("avro", "iceberg"):
    d = os.path.dirname(importlib.import_module(f"duckdb_extension_{e}").__file__)
    c.execute(f"LOAD '{d}/extensions/v{duckdb.__version__}/{e}.duckdb_extension'")
# It prints 0.1 as .1, which is no JSON.
def whole(text): return re.sub(r"(^|[[:, ])(-?)[.](?=[0-9])", r"\\1\\g<2>0.", text)
print_rows([[r[0]] + [whole(t) for t in r[1:]] for r in c.execute(f"SELECT id, v::JSON::VARCHAR, j::JSON::VARCHAR, h.v::JSON::VARCHAR FROM iceberg_scan('{sys.argv[1]}') ORDER BY id").fetchall()])
`
const nestedByDuckdb = `${duckdb}
print_rows([[r[0]] + [whole(t) for t in r[1:]] for r in c.execute(f"SELECT id, vs[1]::JSON::VARCHAR, vs[2]::JSON::VARCHAR, hs[2].v::JSON::VARCHAR, b.vs[1]::JSON::VARCHAR, grid[2][1]::JSON::VARCHAR FROM iceberg_scan('{sys.argv[2]}') ORDER BY id").fetchall()])
`
const pyiceberg = `
import sys
from pyiceberg.table import StaticTable
try: StaticTable.from_metadata(sys.argv[1]); print("loaded")
except Exception as e: print("refused", str(e)[:2000])
`

const objects = `SELECT 100 + g, jsonb_build_object('g', g, 'half', g / 2.0, 'text', repeat('x', g), 'nested', jsonb_build_array(g, jsonb_build_object('k', -g::numeric ^ 9))),
  json_build_object('a', g, 'b', md5(g::text)), ROW(g, to_jsonb(md5(g::text)))::held FROM generate_series(1, 300) g`

test('Spark and DuckDB read what Postgres has, as far as they can', { timeout: 400_000 }, async () => {
  const { client, connectionString } = await postgres.createDatabase()
  await client.query(
    `CREATE TYPE held AS (n int, v jsonb); CREATE TYPE bag AS (n int, vs jsonb[]); CREATE TABLE docs (id int PRIMARY KEY, v jsonb, j json, h held); CREATE TABLE lists (id int PRIMARY KEY, vs jsonb[], hs held[], b bag, grid jsonb[][])`,
  )
  await client.query(`INSERT INTO docs VALUES
    (1, '{"n": 1.50, "s": "a \\"quoted\\" \\n ü 😀", "t": true, "f": false, "z": null, "e": {}, "l": [], "bb": [1, [2]]}', ' {"b": 1.0, "a": "\\u00e9"} ', ROW(1, '[1]')),
    (2, 'null', 'null', NULL), (3, NULL, NULL, ROW(NULL, NULL)),
    (4, '[0, -1, 127, -128, 32768, -2147483649, 9223372036854775807, 9223372036854775808, 0.1, -12345678901234567890.123456789, 99999999999999999999999999999999999999, 1e-38]', '-0', NULL),
    (5, '"short"', to_json(repeat('long ', 100)), ROW(2, '"x"')),
    (6, (SELECT jsonb_object_agg('k' || g, g) FROM generate_series(1, 300) g), '[]', NULL),
    (7, (SELECT jsonb_agg(g) FROM generate_series(1, 300) g), '{}', NULL), (8, 'true', 'false', NULL), (9, '1', '2', NULL)`)
  await client.query(`INSERT INTO lists VALUES
    (1, '{"1.50","null",NULL}', ARRAY[NULL, ROW(1, '[2.50]')]::held[], ROW(1, ARRAY['"in"'::jsonb]), ARRAY[['1'::jsonb], ['{"k": null}'::jsonb]]),
    (2, '{}', '{}', ROW(2, NULL), '{}'), (3, NULL, NULL, NULL, NULL), (4, '{NULL,"{\\"a\\": [1]}"}', ARRAY[ROW(1, NULL), ROW(2, NULL)]::held[], ROW(3, ARRAY[NULL]::jsonb[]), NULL)`)
  const backend = await BackendProcess.start(['--source', connectionString, '--state-dir', join(directory, 'state')], {
    MOONLINK_SOURCE_TYPES: JSON.stringify({ jsonb: 'variant', json: 'variant' }),
  })
  try {
    await client.query(
      `INSERT INTO docs ${objects}; UPDATE docs SET v = v || '{"more": [null]}' WHERE id = 1; DELETE FROM docs WHERE id IN (9, 150)`,
    )
    await backend.wait({ iceberg: true })
    const { metadataLocation, reason } = await backend.table('public.docs')
    expect(reason).toBeNull()
    const { rows } = await client.query<string[]>({
      text: `SELECT id, v::text, j::jsonb::text, (h).v::text FROM docs ORDER BY id`,
      rowMode: 'array',
    })
    const run = async (environment: 'venv' | 'venv-spark', program: string, ...given: string[]) =>
      (await python(environment, ['-c', program, ...given]))
        .trim()
        .split('\n')
        .map((line): unknown => JSON.parse(line))
    const [expected] = (await run('venv', `${normal}print_rows(json.loads(sys.argv[1]))`, JSON.stringify(rows))) as [unknown[][]]
    expect(expected.length).toBe(307)

    const lists = await backend.table('public.lists')
    const [bySpark, nested, types, vectorized] = await run('venv-spark', spark, metadataLocation, lists.metadataLocation)
    expect(bySpark).toEqual(expected)
    expect(nested).toEqual([
      [1, '"#1.5"', 'null', '["#2.5"]', '"in"', '{"k": null}'],
      [2, null, null, null, null, null],
      [3, null, null, null, null, null],
      [4, null, '{"a": ["#1"]}', null, null, null],
    ])
    // A limit of Spark's, which it has with tables of its own too.
    expect(vectorized).toEqual([expect.stringContaining('vectorized'), [1, 2, 3, 4]])
    expect(types).toEqual([
      [1, false, false, true, null, expect.stringContaining('n: DECIMAL(2,1)')],
      [2, false, true, null, null, 'VOID'],
      [3, true, false, null, null, null],
      [4, false, false, null, null, 'ARRAY<DOUBLE>'],
      [5, false, false, null, null, 'STRING'],
      [6, false, false, null, 40, expect.stringContaining('k40: BIGINT')],
      [7, false, false, null, null, 'ARRAY<BIGINT>'],
    ])

    // DuckDB takes a JSON null for none, and shows both as JSON's.
    const [byDuckdb, nestedThere] = await run('venv', nestedByDuckdb, metadataLocation, lists.metadataLocation)
    expect(byDuckdb).toEqual(expected.map(([id, v, j, inStruct]) => [id, v ?? 'null', j ?? 'null', inStruct ?? 'null']))
    expect(nestedThere).toEqual((nested as unknown[][]).map((row) => row.map((value) => value ?? 'null')))

    expect(await python('venv', ['-c', pyiceberg, metadataLocation])).toMatch(/^refused.*variant/s)
  } finally {
    await backend.stop()
  }
})
