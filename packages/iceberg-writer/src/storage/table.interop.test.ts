import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  appendValue,
  BatchBuilder,
  valueAt,
  type Field,
  type RowsToWrite,
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
import { program, read } from './readers.test.support.ts'

const directory = mkdtempSync(join(tmpdir(), 'moonlink-table-'))
const pool = new ParquetWorkerPool({ workers: 1 })
afterAll(async () => {
  await pool.close()
  rmSync(directory, { recursive: true, force: true })
})

const optional = (id: number, name: string, type: Field['type']): Field => ({ id, name, type, required: false })
const SCHEMA: TableSchema = {
  fields: [
    { id: 1, name: 'id', type: { kind: 'long' }, required: true },
    optional(2, 'text', { kind: 'string' }),
    optional(3, 'flag', { kind: 'boolean' }),
    optional(4, 'amount', { kind: 'decimal', precision: 20, scale: 4 }),
    optional(5, 'ratio', { kind: 'double' }),
    optional(6, 'at', { kind: 'timestamptz' }),
    optional(7, 'day', { kind: 'date' }),
    optional(8, 'key', { kind: 'uuid' }),
    optional(9, 'numbers', { kind: 'list', elementId: 10, element: { kind: 'int' }, elementRequired: false }),
    optional(11, 'raw', { kind: 'binary' }),
  ],
  identifierFieldIds: [1],
}

function valuesOf(id: number): Value[] {
  if (id % 13 === 0) return [BigInt(id), ...Array<Value>(9).fill(null)]
  const bytes = Uint8Array.from({ length: 16 }, (_, index) => (id * (index + 1)) & 0xff)
  return [
    BigInt(id),
    `row ${id} naïve 😀`,
    id % 2 === 0,
    BigInt(id) * 123_456_789n - 10n ** 12n,
    id / 7,
    1_700_000_000_000_000n + BigInt(id) * 61_000_001n,
    id - 5000,
    bytes,
    [id, null, -id],
    bytes.subarray(0, id % 16),
  ]
}

function rowsOf(ids: readonly number[], rowIds: readonly number[] | null = null): RowsToWrite {
  const builder = new BatchBuilder(SCHEMA.fields, ids.length)
  for (const id of ids) for (const [index, value] of valuesOf(id).entries()) appendValue(builder.builders[index], value)
  return { rows: builder.view(), rowIds: rowIds === null ? null : Float64Array.from(rowIds), lastUpdated: null }
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index)

/** A mirror in small: which rows lie where, and which are dead. */
class SmallMirror {
  readonly storage: TableStorage
  readonly dead = new Map<string, Set<number>>()
  /** Live key → its file and position. */
  readonly places = new Map<number, { readonly path: string; readonly row: number; readonly rowId: number }>()
  private lsn = 0n

  constructor(storage: TableStorage) {
    this.storage = storage
  }

  /** Writes `ids` anew, each replacing the row it had, whose `_row_id` it keeps; deletes `gone`. */
  async commit(ids: readonly number[], gone: readonly number[] = []): Promise<void> {
    const touched = new Set<string>()
    const rowIds = ids.map((id) => this.places.get(id)?.rowId ?? -1)
    for (const id of [...ids, ...gone]) {
      const place = this.places.get(id)
      if (!place) continue
      const rows = this.dead.get(place.path) ?? new Set()
      this.dead.set(place.path, rows.add(place.row))
      touched.add(place.path)
      this.places.delete(id)
    }
    const addFiles = ids.length === 0 ? [] : [await this.storage.writeFile(rowsOf(ids, rowIds.some((id) => id >= 0) ? rowIds : null))]
    const vectors = Array.from(touched, (dataFile) => {
      const rows = this.dead.get(dataFile)!
      return { dataFile, bitmap: roaringOf(rows), cardinality: rows.size }
    })
    const snapshot = await this.storage.commit({ kind: 'append', addFiles, removeFiles: [], vectors, lsn: ++this.lsn })
    for (const staged of addFiles) {
      const { firstRowId, path } = snapshot.files.find((file) => file.path === staged.path)!
      ids.forEach((id, row) => this.places.set(id, { path, row, rowId: rowIds[row] >= 0 ? rowIds[row] : firstRowId + row }))
    }
  }
}

async function readEverywhere(metadata: string): Promise<{ rows: number; checksum: string }> {
  const readings = [
    await read('pyiceberg_read', ['--metadata', metadata]),
    await read('duckdb_read', ['--metadata', metadata]),
    await read('spark_read', ['--metadata', metadata]),
  ]
  const [first] = readings
  for (const reading of readings) expect(reading).toMatchObject({ row_count: first.row_count, checksum: first.checksum })
  return { rows: first.row_count, checksum: first.checksum }
}

const session = (warehouse: string) => `
import argparse, json
from spark_common import session
s = session(argparse.Namespace(warehouse=${JSON.stringify(warehouse)}, uri=None, prop=[]))
t = 'ic.shop.orders'
def ids(): return sorted([r.id, r._row_id] for r in s.sql(f'SELECT id, _row_id FROM {t}').collect())
`

function setup(name: string) {
  const warehouse = join(directory, name)
  const store = new LocalObjectStore()
  const catalog = new FileCatalog({ store, warehouse: pathToFileUri(warehouse) })
  const open = () => openTableStorage({ table: { schema: 'shop', name: 'orders' }, schema: SCHEMA, catalog, store, parquet: pool })
  return { warehouse, open }
}

test(
  'three readers agree on a table whose files were updated again and again; Spark sees unbroken lineage, then takes over',
  { timeout: 900_000 },
  async () => {
    const { warehouse, open } = setup('rounds')
    const storage = await open()
    expect(await readEverywhere(storage.snapshot.metadataLocation)).toMatchObject({ rows: 0 })
    const mirror = new SmallMirror(storage)
    await mirror.commit([])
    expect(await readEverywhere(storage.snapshot.metadataLocation)).toMatchObject({ rows: 0 })
    await mirror.commit(range(0, 5000))
    await mirror.commit(range(5000, 8000))
    for (let round = 0; round < 6; round++) {
      const updated = range(0, 8000).filter((id) => id % 10 === round && mirror.places.has(id))
      const gone = range(0, 8000).filter((id) => id % 97 === round && id % 10 !== round)
      await mirror.commit(updated, gone)
    }
    expect(storage.snapshot.vectors.length).toBeGreaterThan(2)
    const { rows } = await readEverywhere(storage.snapshot.metadataLocation)
    expect(rows).toBe(mirror.places.size)

    const expected = [...mirror.places].map(([id, { rowId }]) => [id, rowId]).sort((a, b) => a[0] - b[0])
    const seen = (await program(
      'venv-spark',
      `${session(warehouse)}
before = ids()
s.sql(f"INSERT INTO {t} (id, text) VALUES (100001, 'from Spark'), (100002, 'from Spark')")
s.sql(f'DELETE FROM {t} WHERE id % 50 = 11')
s.sql(f"UPDATE {t} SET text = 'changed by Spark' WHERE id % 50 = 12")
middle = ids()
files = s.sql(f'SELECT count(*) n FROM {t}.delete_files').collect()[0].n
print('RESULT ' + json.dumps([before, middle, files]))
s.stop()
`,
    )) as [number[][], number[][], number]
    const [before, middle, deleteFiles] = seen
    expect(before).toEqual(expected)
    expect(new Map(middle.map(([id, rowId]) => [rowId, id])).size).toBe(middle.length)
    const kept = new Map(before.map(([id, rowId]) => [id, rowId]))
    for (const [id, rowId] of middle) if (id < 100_000) expect(rowId).toBe(kept.get(id))

    // Spark's manifests and deletion vectors are read back by us.
    const after = await open()
    expect(after.snapshot.vectors).toHaveLength(deleteFiles)
    const live = after.snapshot.files.reduce((sum, file) => sum + file.recordCount, 0)
    expect(live - after.snapshot.vectors.reduce((sum, vector) => sum + vector.cardinality, 0)).toBe(middle.length)
    expect(after.snapshot.committedLsn).toBe(storage.snapshot.committedLsn)

    const rewritten = (await program(
      'venv-spark',
      `${session(warehouse)}
s.sql("CALL ic.system.rewrite_data_files(table => 'shop.orders', options => map('rewrite-all', 'true'))")
s.sql("CALL ic.system.rewrite_manifests('shop.orders')")
s.sql("CALL ic.system.expire_snapshots(table => 'shop.orders', older_than => TIMESTAMP '2100-01-01 00:00:00', retain_last => 1)")
print('RESULT ' + json.dumps(ids()))
s.stop()
`,
    )) as number[][]
    expect(rewritten).toEqual(middle)
    const taken = await open()
    expect(taken.snapshot).toMatchObject({ committedLsn: storage.snapshot.committedLsn, vectors: [] })
    expect(await readEverywhere(taken.snapshot.metadataLocation)).toMatchObject({ rows: middle.length })
  },
)

test('DuckDB opens the table by its directory', async () => {
  const { warehouse, open } = setup('directory')
  const mirror = new SmallMirror(await open())
  await mirror.commit(range(0, 100))
  await mirror.commit([], [3, 4])
  const counted = await program(
    'venv',
    `
import duckdb, importlib, json, os
c = duckdb.connect(config={'autoinstall_known_extensions': 'false'})
for e in ('avro', 'iceberg'):
    d = os.path.dirname(importlib.import_module(f'duckdb_extension_{e}').__file__)
    c.execute(f"LOAD '{d}/extensions/v{duckdb.__version__}/{e}.duckdb_extension'")
print('RESULT ' + json.dumps(c.execute("SELECT count(*), sum(id) FROM iceberg_scan('${join(warehouse, 'shop', 'orders')}')").fetchall()))
`,
  )
  expect(counted).toEqual([[98, 4943]])
})

test(
  'a mirror builds no commit upon rows that Spark appended, and leaves them until it is opened again',
  { timeout: 300_000 },
  async () => {
    const { warehouse, open } = setup('beside')
    const storage = await open()
    const mirror = new SmallMirror(storage)
    await mirror.commit(range(0, 100))
    await program(
      'venv-spark',
      `${session(`file://${warehouse}`)}
s.sql(f"INSERT INTO {t} (id, text) VALUES (100001, 'from Spark')")
print('RESULT 0')
s.stop()
`,
    )
    await expect(mirror.commit([1, 2], [3])).rejects.toMatchObject({ kind: 'conflict', code: 'ROWS_CHANGED' })
    const { files, metadataLocation } = (await open()).snapshot
    expect(files).toHaveLength(2)
    expect(await readEverywhere(metadataLocation)).toMatchObject({ rows: 101 })
  },
)

test('files and retained snapshots are read back by ourselves', async () => {
  const { open } = setup('own')
  const storage = await open()
  const mirror = new SmallMirror(storage)
  await mirror.commit(range(0, 50))
  await mirror.commit([7], [8])
  const file = storage.snapshot.files.find((candidate) => candidate.recordCount === 50)!
  for await (const { firstRow, rows, rowIds, lastUpdated } of storage.scanFile(file, [SCHEMA.fields[1], SCHEMA.fields[0]], {
    lineage: true,
  })) {
    for (let row = 0; row < rows.length; row++) {
      expect([valueAt(rows.columns[1], row), valueAt(rows.columns[0], row)]).toEqual(valuesOf(firstRow + row).slice(0, 2))
      expect([rowIds![row], lastUpdated![row]]).toEqual([file.firstRowId + firstRow + row, file.dataSequenceNumber])
    }
  }
  const fetched = await storage.fetchRows(file, Uint32Array.of(5, 49), [SCHEMA.fields[0]])
  expect([valueAt(fetched.columns[0], 0), valueAt(fetched.columns[0], 1)]).toEqual([5n, 49n])
  const [old] = storage.retained()
  expect(await storage.loadSnapshot(old.snapshotId)).toMatchObject({ files: [{ recordCount: 50 }], vectors: [], committedLsn: 1n })
})
