import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { interopScripts, python } from '../readers.ts'

/** Rows' ids as `briefly` has them, or what the reader said instead. */
export type Answer = readonly number[] | { readonly error: string }

const FEW = 1000

/** A few ids as they are, in order; of many how many they are, their sum, the first and the last. */
export function briefly(ids: readonly number[]): Answer {
  const sorted = ids.toSorted((a, b) => a - b)
  return sorted.length <= FEW ? sorted : [sorted.length, sorted.reduce((sum, id) => sum + id), sorted[0], sorted.at(-1)!]
}

const PRELUDE = `
import json, sys, contextlib
sys.path.insert(0, ${JSON.stringify(interopScripts)})
job = json.load(open(sys.argv[1]))
def briefly(ids):
    return ids if len(ids) <= ${FEW} else [len(ids), sum(ids), ids[0], ids[-1]]
def answers(answer):
    out = []
    for predicate in job["predicates"]:
        try: out.append(briefly(sorted(answer(predicate))))
        except Exception as error: out.append({"error": f"{type(error).__name__}: {error}"[:600]})
    json.dump(out, open(sys.argv[2], "w"))
`

const SCRIPTS = {
  duckdb: `${PRELUDE}
import importlib, os, duckdb
c = duckdb.connect(config={"autoinstall_known_extensions": "false"})
for e in ("avro", "iceberg"):
    d = os.path.dirname(importlib.import_module(f"duckdb_extension_{e}").__file__)
    c.execute(f"LOAD '{d}/extensions/v{duckdb.__version__}/{e}.duckdb_extension'")
c.execute("SET TimeZone='UTC'")
answers(lambda p: [row[0] for row in c.execute(f"SELECT id FROM iceberg_scan(?) WHERE {p}", [job["metadata"]]).fetchall()])
`,
  spark: `${PRELUDE}
import types
from spark_common import session
s = session(types.SimpleNamespace())
s.read.format("iceberg").load(job["metadata"]).createOrReplaceTempView("t")
answers(lambda p: [row[0] for row in s.sql(f"SELECT id FROM t WHERE {p}").collect()])
s.stop()
`,
  pyiceberg: `${PRELUDE}
from decimal import Decimal
from uuid import UUID
from pyiceberg.table import StaticTable
from pyiceberg.expressions import *
from pyiceberg.expressions.literals import LongLiteral, TimeLiteral
t = StaticTable.from_metadata(job["metadata"])
literals = {
    "boolean": lambda v: v == "true", "int": int, "long": int, "float": float, "double": float, "decimal": Decimal, "string": str, "binary": bytes.fromhex,
    "uuid": UUID, "time": lambda v: TimeLiteral(int(v)), **{kind: lambda v: LongLiteral(int(v)) for kind in ("date", "timestamp", "timestamptz")},
}
comparisons = {"=": EqualTo, "<>": NotEqualTo, "<": LessThan, "<=": LessThanOrEqual, ">": GreaterThan, ">=": GreaterThanOrEqual, "starts": StartsWith, "not starts": NotStartsWith}
def expression(p):
    op = p["op"]
    if op in ("and", "or"): return (And if op == "and" else Or)(*map(expression, p["of"]))
    column = p["column"]
    name, literal = ".".join(part for part in (column.get("of"), column["name"]) if part), literals[column["kind"]]
    if op == "null": return IsNull(name)
    if op == "not null": return NotNull(name)
    if op in ("in", "not in"): return (In if op == "in" else NotIn)(name, [literal(v) for v in p["values"]])
    return comparisons[op](name, literal(p["value"]))
answers(lambda p: t.scan(row_filter=expression(p), selected_fields=("id",)).to_arrow()["id"].to_pylist())
`,
}

const environments = { duckdb: 'venv', spark: 'venv-spark', pyiceberg: 'venv' } as const
export type PruningReader = keyof typeof environments

/** Which rows of a table each of the predicates gives, in one process of the reader. */
export async function readWhere(
  reader: PruningReader,
  metadata: string,
  predicates: readonly unknown[],
  directory: string,
): Promise<Answer[]> {
  const [job, found] = ['job', 'found'].map((name) => join(directory, `${reader}-${name}.json`))
  writeFileSync(job, JSON.stringify({ metadata: metadata.replace(/^file:\/\//, ''), predicates }))
  await python(environments[reader], ['-c', SCRIPTS[reader], job, found])
  return JSON.parse(readFileSync(found, 'utf8')) as Answer[]
}

/** How many row groups each of a table's data files has. */
export async function rowGroupsOf(metadata: string): Promise<number[]> {
  const script = `
import json, sys
import pyarrow.parquet as pq
from pyiceberg.table import StaticTable
paths = {task.file.file_path for task in StaticTable.from_metadata(sys.argv[1]).scan().plan_files()}
print(json.dumps([pq.ParquetFile(path.removeprefix("file://")).num_row_groups for path in paths]))
`
  return JSON.parse(await python('venv', ['-c', script, metadata.replace(/^file:\/\//, '')])) as number[]
}
