import { python } from './readers.ts'

/** A state of a table that readers open: a metadata file, and one of its snapshots, or null for the current one. */
export interface Opened {
  readonly metadata: string
  readonly snapshotId: string | null
}

/** What a reader found: the checksum of the rows, and the columns it says there are, in their order, with Iceberg's names of their types. */
export interface Found {
  readonly row_count: number
  readonly checksum: string
  readonly columns: readonly (readonly [name: string, type: string])[]
}

/** `rows(metadata, snapshot)` of each reader gives an Arrow table under the schema that the reader takes for that snapshot's. */
const readers = {
  PyIceberg: {
    environment: 'venv',
    rows: `
from pyiceberg.table import StaticTable
def rows(metadata, snapshot):
    return StaticTable.from_metadata(metadata).scan(snapshot_id=snapshot and int(snapshot)).to_arrow()
`,
  },
  DuckDB: {
    environment: 'venv',
    rows: `
import duckdb, importlib, os
c = duckdb.connect(config={'autoinstall_known_extensions': 'false'})
for e in ('avro', 'iceberg'):
    d = os.path.dirname(importlib.import_module(f'duckdb_extension_{e}').__file__)
    c.execute(f"LOAD '{d}/extensions/v{duckdb.__version__}/{e}.duckdb_extension'")
def rows(metadata, snapshot):
    at = f', snapshot_from_id => {snapshot}' if snapshot else ''
    return c.execute(f"SELECT * FROM iceberg_scan('{metadata.removeprefix('file://')}'{at})").to_arrow_table()
`,
  },
  Spark: {
    environment: 'venv-spark',
    rows: `
import argparse
from spark_common import session
s = session(argparse.Namespace(warehouse=warehouse, uri=None, prop=[]))
def rows(metadata, snapshot):
    if snapshot is None: return s.read.format('iceberg').load(metadata).toArrow()
    return s.sql(f'SELECT * FROM ic.{table} VERSION AS OF {snapshot}').toArrow()
`,
  },
} as const

export type TimeTraveller = keyof typeof readers

/**
 * Reads states of the table `name` (`schema.table`) of a warehouse folder, one after the other in one process. Spark finds snapshots
 * through a catalog of the folder, the others in the metadata file.
 */
export async function readStates(reader: TimeTraveller, warehouse: string, name: string, states: readonly Opened[]): Promise<Found[]> {
  const { environment, rows } = readers[reader]
  const program = `
import json, re, sys
from canon import Checksum
warehouse, table, states = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
names = {'int32': 'int', 'int64': 'long', 'bool': 'boolean', 'large_string': 'string', 'date32[day]': 'date'}
def type_of(t):
    return re.sub(r'^decimal128\\((\\d+), (\\d+)\\)$', r'decimal(\\1,\\2)', names.get(str(t), str(t)))
${rows}
found = []
for state in states:
    t = rows(state['metadata'], state['snapshotId'])
    columns = [(f.name, type_of(f.type)) for f in t.schema]
    checksum = Checksum({'fields': [{'name': n, 'type': k} for n, k in columns]})
    for batch in t.to_batches(): checksum.add(batch)
    found.append({**checksum.result(), 'columns': columns})
print('RESULT ' + json.dumps(found))
`
  const output = await python(environment, ['-c', program, warehouse, name, JSON.stringify(states)])
  return JSON.parse(/RESULT (.*)/.exec(output)![1]) as Found[]
}
