import { python, type Reading } from '../readers.ts'
import { pathToFileURL } from 'node:url'
import { FileCatalog } from '@moonlink/iceberg-writer'
import { LocalObjectStore } from '@moonlink/object-store'
import { stampedSnapshots } from './at-rest.ts'
import { expectRows } from './compare.ts'
import { Dice } from './dice.ts'
import type { Session } from './session.ts'
import type { OracleSource, TableRows } from './source.ts'
import { mirrorName, quote, shownColumns, type OracleTable } from './tables.ts'

const duckdb = `
import importlib, json, os, sys
import duckdb
from readers_common import current, local
con = duckdb.connect(config={"autoinstall_known_extensions": "false"})
for name in ("avro", "iceberg"):
    d = os.path.dirname(importlib.import_module("duckdb_extension_" + name).__file__)
    con.execute(f"LOAD '{d}/extensions/v{duckdb.__version__}/{name}.duckdb_extension'")
con.execute("SET TimeZone='UTC'")
def scan(select, job):
    return con.execute(f"SELECT {select} FROM iceberg_scan(?, snapshot_from_id => ?)", [local(job["metadata"]), int(job["snapshot"])])
`

/** Prints, a line a snapshot, its checksum by PyIceberg and by DuckDB's own reader. */
const readSnapshots = `${duckdb}
import canon
from pyiceberg.table import StaticTable
for job in json.loads(sys.argv[1]):
    metadata, snapshot = job["metadata"], int(job["snapshot"])
    def sum_of(batches):
        ck = canon.Checksum(current(metadata)[1])
        for batch in batches:
            ck.add(batch)
        return ck.result()
    ice = sum_of(StaticTable.from_metadata(metadata).scan(snapshot_id=snapshot).to_arrow_batch_reader())
    print(json.dumps({"PyIceberg": ice, "DuckDB": sum_of(scan("*", job).to_arrow_table().to_batches())}))
`

/** Prints, a line a snapshot, the rows of what is selected from it, by DuckDB alone. */
const readVariants = `${duckdb}
for job in json.loads(sys.argv[1]):
    print(json.dumps(scan(job["select"], job).fetchall()))
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
  /** As it was then. */
  readonly table: OracleTable
  readonly metadata: string
  readonly snapshot: string
  readonly rows: TableRows
  /** Null where a column has variants. A table of Postgres' that holds the rows of the snapshot's LSN. */
  readonly past: string | null
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
    await this.#checkPlain(jobs.filter(({ past }) => past !== null))
    await this.#checkVariants(jobs.filter(({ past }) => past === null))
  }

  async #checkPlain(jobs: readonly Job[]): Promise<void> {
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

  /** The values of variants, row by row: what PyIceberg can't load, and DuckDB shows in another way than Postgres. */
  async #checkVariants(jobs: readonly Job[]): Promise<void> {
    const variantsOf = ({ table }: Job) =>
      shownColumns(table).flatMap(({ name, type }, index) => (type.variant === 'itself' ? [{ name, index }] : []))
    const some = jobs.filter((job) => variantsOf(job).length > 0)
    if (some.length === 0) return
    const asked = some.map((job) => {
      const select = variantsOf(job).map(({ name }) => `${quote(name)}::JSON::VARCHAR`)
      return { metadata: job.metadata, snapshot: job.snapshot, select: select.join(', ') }
    })
    const found = lines<(string | null)[][]>(await python('venv', ['-c', readVariants, JSON.stringify(asked)]))
    for (const [index, job] of some.entries()) {
      const rows = job.rows.map((row) => JSON.parse(row) as (string | null)[])
      const expected = rows.map((row) => JSON.stringify(variantsOf(job).map((column) => sameJson(row[column.index]))))
      const shown = found[index].map((row) => JSON.stringify(row.map(sameJson)))
      expectRows(shown.sort(), [expected.sort()], `DuckDB, ${mirrorName(job.table)}, snapshot ${job.snapshot}`)
      this.compared++
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
        const hasVariants = shownColumns(then).some(({ type }) => type.variant !== undefined)
        const past = hasVariants ? null : await this.#makePast(source.observer, then, rows)
        jobs.push({ table: then, metadata: loaded.metadataLocation, snapshot: String(snapshotId), rows, past })
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

/** JSON's text, the same for the same values: DuckDB takes JSON's null for none, prints `.1` for 0.1, and has an order of keys of its own. */
function sameJson(text: string | null): string | null {
  if (text === null) return null
  const whole = text.replace(/(^|[[:,] ?)(-?)\.(?=[0-9])/g, '$1$20.')
  const value = parseWithSource(whole, (_, part, { source }) => {
    if (typeof part === 'number') return `number ${source!.replace(/(\.[0-9]*?)0+$/, '$1').replace(/\.$/, '')}`
    if (part === null || typeof part !== 'object' || Array.isArray(part)) return part
    return Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
  })
  return value === null ? null : JSON.stringify(value)
}

/** TypeScript does not know yet that a reviver is given what a number was written as. */
const parseWithSource = JSON.parse as (
  text: string,
  reviver: (key: string, part: unknown, context: { readonly source?: string }) => unknown,
) => unknown

function lines<T>(text: string): T[] {
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as T)
}
