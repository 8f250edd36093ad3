import type { Config } from '../config/schema.ts'
import { formatBytes } from '../config/units.ts'

const MIB = 2 ** 20
/** What the process takes beside what its settings bound, with one Parquet worker under load; measured (docs/OPERATIONS.md). */
const PROCESS_BYTES = 550 * MIB
const FURTHER_WORKER_BYTES = 100 * MIB

/** Bytes that a backend of these settings may come to take. */
export function memoryNeed({ memory, parquet, source, sql }: Pick<Config, 'memory' | 'parquet' | 'source' | 'sql'>): number {
  return memory.limitBytes + sql.memoryBytes + source.spoolBytes + PROCESS_BYTES + (parquet.workers - 1) * FURTHER_WORKER_BYTES
}

/** What to tell where the machine, or the container, has less than that (`availableBytes`); nothing where it has enough. */
export function memoryNotes(config: Pick<Config, 'memory' | 'parquet' | 'source' | 'sql'>, availableBytes: number): string[] {
  const needed = memoryNeed(config)
  if (needed <= availableBytes) return []
  const { memory, sql } = config
  return [
    `memory: this backend may come to take ${formatBytes(needed)}, and there are ${formatBytes(availableBytes)}; lower memory.limitBytes (${formatBytes(memory.limitBytes)}) or sql.memoryBytes (${formatBytes(sql.memoryBytes)}): docs/OPERATIONS.md, Memory`,
  ]
}
