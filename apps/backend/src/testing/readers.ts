import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const work = process.env['INTEROP_WORK'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'moonlink-interop')
/** The folder of the readers' scripts, and of those that start servers. */
export const interopScripts = process.env['MOONLINK_INTEROP_DIR'] ?? resolve(import.meta.dirname, '../../../../../shared/interop')

export interface Reading {
  readonly row_count: number
  readonly checksum: string
  readonly next_row_id?: number
  readonly unrepresentable?: Readonly<Record<string, number>>
}

/** Runs one of the independent readers (`spark_read`, `pyiceberg_read`, `duckdb_read`, `pg_read`) and gives what it printed. */
export async function read(reader: 'spark_read' | 'pyiceberg_read' | 'duckdb_read' | 'pg_read', args: readonly string[]): Promise<Reading> {
  return JSON.parse(await script(reader, args)) as Reading
}

const runEach = `
import contextlib, io, json, os, runpy, sys
name, jobs = sys.argv[1], json.loads(sys.argv[2])
script = next(p for p in (os.path.join(d, name) for d in sys.path) if os.path.exists(p))
for job in jobs:
    sys.argv = [script, *job]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        runpy.run_path(script, run_name="__main__")
    print(json.dumps(json.loads(out.getvalue())))
`

/** Runs a reader once for each list of arguments, in one process; `prelude` is Python that runs before. */
export async function readEach(
  reader: keyof typeof environments,
  argLists: readonly (readonly string[])[],
  prelude = '',
): Promise<readonly Reading[]> {
  const output = await python(environments[reader], ['-c', prelude + runEach, `${reader}.py`, JSON.stringify(argLists)])
  // Libraries in C write to the same output, past Python's redirection.
  return output
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Reading)
}

const environments = { spark_read: 'venv-spark', pyiceberg_read: 'venv', duckdb_read: 'venv', pg_read: 'venv-pg' } as const

async function script(name: keyof typeof environments, args: readonly string[]): Promise<string> {
  const file = join(interopScripts, `${name}.py`)
  if (!existsSync(file)) throw new Error(`no ${file}: set MOONLINK_INTEROP_DIR to the folder of the interop scripts, or run .ci/interop`)
  return python(environments[name], [file, ...args])
}

/** Runs Python of one of the readers' environments. */
export async function python(environment: 'venv' | 'venv-spark' | 'venv-pg', args: readonly string[]): Promise<string> {
  const { stdout } = await run(join(work, environment, 'bin/python'), args, {
    maxBuffer: 256 * 1024 * 1024,
    env: { ...process.env, PYTHONPATH: interopScripts },
  })
  return stdout
}
