import { python, type Reading } from '../readers.ts'
import { pathToFileURL } from 'node:url'
import { FileCatalog } from '@moonlink/iceberg-writer'
import { LocalObjectStore } from '@moonlink/object-store'
import { stampedSnapshots } from './at-rest.ts'
import { Dice } from './dice.ts'
import type { Session } from './session.ts'
import type { OracleSource, TableRows } from './source.ts'
import { mirrorName, quote, type OracleTable } from './tables.ts'

/** Prints, a line a snapshot, its checksum by PyIceberg and by DuckDB's own reader. */
const readSnapshots = `
import importlib, json, os, sys
import canon, duckdb
from readers_common import current, local
from pyiceberg.table import StaticTable
con = duckdb.connect(config={"autoinstall_known_extensions": "false"})
for name in ("avro", "iceberg"):
    d = os.path.dirname(importlib.import_module("duckdb_extension_" + name).__file__)
    con.execute(f"LOAD '{d}/extensions/v{duckdb.__version__}/{name}.duckdb_extension'")
con.execute("SET TimeZone='UTC'")
for job in json.loads(sys.argv[1]):
    metadata, snapshot = job["metadata"], int(job["snapshot"])
    def sum_of(batches):
        ck = canon.Checksum(current(metadata)[1])
        for batch in batches:
            ck.add(batch)
        return ck.result()
    ice = sum_of(StaticTable.from_metadata(metadata).scan(snapshot_id=snapshot).to_arrow_batch_reader())
    scan = con.execute("SELECT * FROM iceberg_scan(?, snapshot_from_id => ?)", [local(metadata), snapshot])
    print(json.dumps({"PyIceberg": ice, "DuckDB": sum_of(scan.to_arrow_table().to_batches())}))
`

/** Prints, a line a table, what `pg_read.py` prints of it. */
const readTables = `
import contextlib, io, json, os, runpy, sys
dsn, jobs = sys.argv[1], json.loads(sys.argv[2])
script = next(p for p in (os.path.join(d, "pg_read.py") for d in sys.path) if os.path.exists(p))
for job in jobs:
    sys.argv = ["pg_read.py", "--dsn", dsn, "--schema-from", job["metadata"], job["past"]]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        runpy.run_path(script)
    print(json.dumps(json.loads(out.getvalue())))
`

interface Job {
  readonly table: OracleTable
  readonly metadata: string
  readonly snapshot: string
  /** A table of Postgres' that holds the rows of the snapshot's LSN. */
  readonly past: string
}

/** Compares a few snapshots of each table, as readers that we did not write see them, with what Postgres had at their LSNs. */
export class ForeignReaders {
  /** Readings compared. */
  compared = 0
  readonly #dice = new Dice(1)
  readonly #connectionString: string
  #pasts = 0

  constructor(connectionString: string) {
    this.#connectionString = connectionString
  }

  async check(source: OracleSource, warehouse: string): Promise<void> {
    const jobs = await this.#jobs(source, warehouse)
    if (jobs.length === 0) return
    const plain = JSON.stringify(jobs.map(({ metadata, snapshot, past }) => ({ metadata, snapshot, past })))
    const found = lines<Record<string, Reading>>(await python('venv', ['-c', readSnapshots, plain]))
    const expected = lines<Reading>(await python('venv-pg', ['-c', readTables, this.#connectionString, plain]))
    for (const [index, { table, snapshot }] of jobs.entries()) {
      const { row_count, checksum } = expected[index]
      for (const [reader, reading] of Object.entries(found[index])) {
        if (reading.row_count !== row_count || reading.checksum !== checksum)
          throw new Error(`${reader}, ${mirrorName(table)}, snapshot ${snapshot}: ${JSON.stringify([reading, expected[index]])}`)
        this.compared++
      }
    }
  }

  /** Two snapshots of each table, the newest among them. */
  async #jobs(source: OracleSource, warehouse: string): Promise<Job[]> {
    await source.observer.run('CREATE SCHEMA IF NOT EXISTS past')
    const catalog = new FileCatalog({ store: new LocalObjectStore(), warehouse: pathToFileURL(warehouse).href })
    const jobs: Job[] = []
    for (const table of source.tables) {
      const loaded = await catalog.load({ namespace: 'public', name: table.name })
      if (loaded === null) continue
      const known = (await stampedSnapshots(loaded.metadataLocation)).flatMap(({ snapshotId, lsn }) => {
        const moments = source.at(lsn)
        const [state] = moments.flatMap(({ tables }) => tables.get(table.name)!)
        return moments.length === 1 && state.rows !== null ? [{ snapshotId, table: state.table, rows: state.rows }] : []
      })
      for (const { snapshotId, rows, table: then } of new Set([...this.#dice.some(known, 1), ...known.slice(-1)])) {
        const past = await this.#makePast(source.observer, then, rows)
        jobs.push({ table, metadata: loaded.metadataLocation, snapshot: String(snapshotId), past })
      }
    }
    return jobs
  }

  async #makePast(session: Session, table: OracleTable, rows: TableRows): Promise<string> {
    const name = `past.p${this.#pasts++}`
    const columns = table.columns.map(({ name: column, type }) => `${quote(column)} ${type.reference ?? type.sql}`)
    const cells = table.columns.map(({ type }, index) => {
      const cell = `(j ->> ${index})::${type.sql}`
      return type.reference === undefined ? cell : `${cell}::${type.reference}`
    })
    await session.run(`CREATE TABLE ${name} (${columns.join(', ')})`)
    await session.run(`INSERT INTO ${name} SELECT ${cells.join(', ')} FROM json_array_elements($1::json) j`, [`[${rows.join(',')}]`])
    return name
  }
}

function lines<T>(text: string): T[] {
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as T)
}
