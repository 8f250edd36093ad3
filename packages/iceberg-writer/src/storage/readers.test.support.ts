import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const work = process.env['INTEROP_WORK'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'moonlink-interop')
const scripts = process.env['MOONLINK_INTEROP_DIR'] ?? resolve(import.meta.dirname, '../../../../../shared/interop')

export interface Reading {
  readonly row_count: number
  readonly checksum: string
  readonly sample?: readonly (readonly unknown[])[]
}

const environments = { spark_read: 'venv-spark', pyiceberg_read: 'venv', duckdb_read: 'venv' } as const

/** Runs one of the independent readers and gives what it printed. */
export async function read(reader: keyof typeof environments, args: readonly string[]): Promise<Reading> {
  const file = join(scripts, `${reader}.py`)
  if (!existsSync(file)) throw new Error(`no ${file}: set MOONLINK_INTEROP_DIR to the folder of the interop scripts`)
  const output = await python(environments[reader], [file, ...args])
  return JSON.parse(output.slice(output.indexOf('{'))) as Reading
}

/** Runs a Python program in a reader's environment and gives the JSON after the word RESULT in its output. */
export async function program(environment: 'venv' | 'venv-spark', text: string): Promise<unknown> {
  const output = await python(environment, ['-c', text])
  return JSON.parse(/RESULT (.*)/.exec(output)![1])
}

async function python(environment: string, args: readonly string[]): Promise<string> {
  const env = { ...process.env, PYTHONPATH: scripts, PYTHONDONTWRITEBYTECODE: '1' }
  return (await run(join(work, environment, 'bin/python'), args, { maxBuffer: 256 << 20, env })).stdout
}
