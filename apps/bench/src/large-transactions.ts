import { mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import type pg from 'pg'
import { currentLsn } from './ceilings.ts'
import { MirrorProcess } from './mirror-process.ts'
import { measurement, type Measurement } from './report.ts'
import { freshDatabase, type BenchContext } from './context.ts'

const MEMORY_LIMIT_MIB = 64
const POLL_MS = 1000
const CHECKSUM = `SELECT count(*), coalesce(sum(id), 0), coalesce(sum(n), 0), coalesce(sum((id * 7919 + n) % 1000003), 0), coalesce(sum(length(note)), 0)`

/**
 * An INSERT of 20M rows, an UPDATE of 10M and a DELETE of 10M, each in one transaction under a memory limit of 64 MiB: how long, how much memory, and whether the
 * mirror equals its source afterwards, also in Iceberg. Takes half an hour, so it runs only where it is asked for.
 */
export async function largeTransactions(context: BenchContext): Promise<Measurement[]> {
  const million = (count: number) => Math.round(count * 1_000_000 * context.scale)
  const { url, client } = await freshDatabase(context, 'bench_large')
  await client.query(`ALTER DATABASE bench_large SET logical_decoding_work_mem = '64MB'`)
  await client.query('CREATE TABLE t (id bigint PRIMARY KEY, n int NOT NULL, note text)')
  const mirror = await MirrorProcess.start({
    source: url,
    stateDir: mkdtempSync(join(context.directory, 'large-')),
    tables: ['public.t'],
    env: { MOONLINK_MEMORY_LIMIT_BYTES: `${MEMORY_LIMIT_MIB}MiB`, MOONLINK_SOURCE_SPOOL_BYTES: '16MiB' },
    profileDir: context.profileDir,
  })
  try {
    await mirror.ready()
    const measured: Measurement[] = []
    for (const [name, sql] of [
      ['INSERT', `INSERT INTO t SELECT i, (i % 1000)::int, 'note ' || md5(i::text) FROM generate_series(1::bigint, ${million(20)}) i`],
      ['UPDATE', `UPDATE t SET n = n + 1, note = note || '!' WHERE id % 2 = 0`],
      ['DELETE', `DELETE FROM t WHERE id % 2 = 1`],
    ] as const) {
      measured.push(await transaction(context, client, mirror, name, sql))
    }
    return measured
  } finally {
    await mirror.stop()
    await client.end()
  }
}

async function transaction(
  context: BenchContext,
  client: pg.Client,
  mirror: MirrorProcess,
  name: string,
  sql: string,
): Promise<Measurement> {
  mirror.forgetPeak()
  const before = mirror.usage()
  const started = performance.now()
  const peaks = new Peaks(mirror)
  const { rowCount } = await client.query(sql)
  const end = await currentLsn(client)
  context.log(`${name}: committed in the source after ${Math.round((performance.now() - started) / 1000)} s`)
  await mirror.waitPatiently(end, true)
  const seconds = (performance.now() - started) / 1000
  const usage = mirror.usage()
  const details = await peaks.stop()
  const { rows } = await client.query<string[]>({ text: `${CHECKSUM} FROM t`, rowMode: 'array' })
  const wanted = rows[0].join()
  const [found] = await mirror.query(`${CHECKSUM} FROM public.t`)
  if (found.join() !== wanted) throw new Error(`${name}: the mirror has ${found.join()}, the source ${wanted}`)
  return measurement(`one ${name}`, rowCount!, seconds, { name: '-', seconds: null }, `memory < ${MEMORY_LIMIT_MIB} MiB`, {
    cpuSecondsPerMillionRows: usage && before && ((usage.cpuSeconds - before.cpuSeconds) / rowCount!) * 1e6,
    peakRssMiB: usage && usage.peakRssMiB,
    details: { ...details, checksum: wanted },
  })
}

/** The highest of some metrics, looked at once a second, in MiB. */
class Peaks {
  private readonly mirror: MirrorProcess
  private readonly peaks = new Map<string, number>()
  private readonly looking: Promise<void>
  private isStopped = false

  constructor(mirror: MirrorProcess) {
    this.mirror = mirror
    this.looking = this.look()
  }

  async stop(): Promise<Record<string, number>> {
    this.isStopped = true
    await this.looking
    return Object.fromEntries([...this.peaks].map(([name, bytes]) => [`${name} MiB`, Math.round(bytes / 1024 / 1024)]))
  }

  private async look(): Promise<void> {
    while (!this.isStopped) {
      for (const [label, metric] of [
        ['memory', 'moonlink_memory_bytes'],
        ['heap', 'nodejs_heap_size_total_bytes'],
        ['external', 'nodejs_external_memory_bytes'],
      ]) {
        const value = await this.mirror.metric(metric).catch(() => null)
        this.peaks.set(label, Math.max(this.peaks.get(label) ?? 0, value ?? 0))
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  }
}
