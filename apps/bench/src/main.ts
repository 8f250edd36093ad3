import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startPostgres } from '@moonlink/embedded-pg'
import { largeTransactions } from './large-transactions.ts'
import { printTable, type Measurement } from './report.ts'
import type { BenchContext } from './context.ts'
import * as scenarios from './scenarios.ts'

const all: Record<string, (context: BenchContext) => Promise<Measurement | Measurement[]>> = {
  copy: scenarios.initialCopy,
  big: scenarios.bigTransaction,
  streamed: scenarios.streamedTransaction,
  small: scenarios.oneRowTransactions,
  updates: scenarios.randomUpdates,
  wide: scenarios.wideRows,
  toast: scenarios.toastUpdates,
  large: largeTransactions,
  freshness: scenarios.freshness,
  union: scenarios.unionRead,
}

const usage = `pnpm bench [${Object.keys(all).join('|')}] … [--scale 0.1] [--json FILE] [--connection socket|tcp] [--profile DIR]`
const { values, positionals } = readArguments()
const scale = Number(values.scale)
const connection: 'socket' | 'tcp' = values.connection === 'socket' ? 'socket' : 'tcp'

function readArguments() {
  try {
    const read = parseArgs({
      allowPositionals: true,
      options: {
        scale: { type: 'string', default: '1' },
        json: { type: 'string' },
        connection: { type: 'string', default: 'tcp' },
        profile: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    })
    if (read.values.help) {
      console.log(usage)
      process.exit(0)
    }
    const unknown = read.positionals.find((name) => !(name in all))
    if (unknown !== undefined) throw new Error(`there is no scenario "${unknown}"`)
    if (!(Number(read.values.scale) > 0)) throw new Error(`--scale takes a number above 0, not "${read.values.scale}"`)
    if (!['tcp', 'socket'].includes(read.values.connection))
      throw new Error(`--connection takes socket or tcp, not "${read.values.connection}"`)
    return read
  } catch (error) {
    console.error(`${(error as Error).message}\n${usage}`)
    process.exit(2)
  }
}

const directory = mkdtempSync(join(tmpdir(), 'moonlink-bench-'))
const postgres = await startPostgres({
  settings: { shared_buffers: '512MB', max_wal_size: '16GB', logical_decoding_work_mem: '2GB', checkpoint_timeout: '1h' },
})
const measurements: Measurement[] = []
// A scenario that fails leaves connections behind, which the server's stop then cuts.
process.on('uncaughtException', (error) => console.error(error.message))
try {
  for (const name of positionals.length > 0 ? positionals : Object.keys(all).filter((one) => one !== 'large')) {
    console.error(`running ${name} …`)
    const context = {
      postgres,
      connection,
      directory,
      scale,
      log: (line: string) => console.error(line),
      profileDir: values.profile ?? null,
    }
    await all[name](context).then(
      (measured) => measurements.push(...[measured].flat()),
      (error: unknown) => {
        console.error(`${name} failed: ${String(error)}`)
        process.exitCode = 1
      },
    )
  }
} finally {
  await postgres.stop()
  rmSync(directory, { recursive: true, force: true })
}
printTable(measurements)
const json = JSON.stringify({ node: process.version, scale, measurements }, null, 2)
if (values.json) writeFileSync(values.json, `${json}\n`)
else console.log(json)
