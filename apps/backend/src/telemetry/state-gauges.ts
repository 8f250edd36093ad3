import { parseLsn } from '@moonlink/core'
import type { StatusReport, TableStatusReport } from '../http/schemas.ts'
import type { StateMetricName } from './metrics.ts'

export interface Sample {
  readonly metric: StateMetricName
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

const STATES = ['copying', 'streaming', 'paused', 'failed'] as const
const VERDICTS = { equal: 1, different: 0, failed: -1 } as const

export interface Limits {
  /** What all tables take, and may take. */
  readonly memory: { readonly bytes: number; readonly limitBytes: number }
  readonly changeLogBytes: number
  /** Of the time, for comparisons. */
  readonly verifyShare: number
}

/** What a status says, as samples. */
export function stateSamples(status: StatusReport, { changeLogBytes, memory, verifyShare }: Limits): Sample[] {
  const { source } = status
  const confirmed = source.confirmedFlushLsn
  const samples: Sample[] = [
    { metric: 'moonlink_up', labels: {}, value: source.connected ? 1 : 0 },
    { metric: 'moonlink_standby', labels: {}, value: 0 },
    { metric: 'moonlink_source_lsn_bytes', labels: {}, value: position(source.sourceLsn) },
    ...(confirmed === null ? [] : [{ metric: 'moonlink_slot_confirmed_lsn_bytes' as const, labels: {}, value: position(confirmed) }]),
    { metric: 'moonlink_slot_retained_bytes', labels: {}, value: source.lagBytes },
    { metric: 'moonlink_slot_lag_seconds', labels: {}, value: source.lagMs / 1000 },
    { metric: 'moonlink_source_waits', labels: {}, value: source.waits.length },
    ...(source.slotHeadroomBytes === null
      ? []
      : [{ metric: 'moonlink_slot_headroom_bytes' as const, labels: {}, value: source.slotHeadroomBytes }]),
    ...(status.log === null
      ? []
      : [
          { metric: 'moonlink_change_log_bytes' as const, labels: {}, value: status.log.bytes },
          { metric: 'moonlink_change_log_limit_bytes' as const, labels: {}, value: changeLogBytes },
          { metric: 'moonlink_change_log_stopped' as const, labels: {}, value: status.log.reason === null ? 0 : 1 },
        ]),
    { metric: 'moonlink_memory_bytes', labels: {}, value: memory.bytes },
    { metric: 'moonlink_memory_limit_bytes', labels: {}, value: memory.limitBytes },
    { metric: 'moonlink_verify_share', labels: {}, value: verifyShare },
  ]
  return samples.concat(status.tables.flatMap(tableSamples))
}

function tableSamples(table: TableStatusReport): Sample[] {
  const labels = { table: table.name }
  const samples: Sample[] = STATES.map((state) => ({
    metric: 'moonlink_table_state',
    labels: { ...labels, state },
    value: table.state === state ? 1 : 0,
  }))
  const add = (metric: StateMetricName, value: number | null) => {
    if (value !== null) samples.push({ metric, labels, value })
  }
  const lsn = (text: string | null) => (text === null ? null : position(text))
  add('moonlink_table_rows', table.rows)
  add('moonlink_table_applied_lsn_bytes', lsn(table.appliedLsn))
  add('moonlink_table_durable_lsn_bytes', lsn(table.durableLsn))
  add('moonlink_table_committed_lsn_bytes', lsn(table.committedLsn))
  add('moonlink_table_lag_bytes', table.lagBytes)
  add('moonlink_table_lag_seconds', table.lagMs / 1000)
  add('moonlink_table_memory_bytes', table.memoryBytes)
  add('moonlink_table_spooled_bytes', table.spooledBytes)
  add('moonlink_table_memory_rows', table.memoryRows)
  add('moonlink_table_data_files', table.dataFiles)
  add('moonlink_table_deletion_vectors', table.deletionVectors)
  add('moonlink_table_copy_ratio', table.copy?.share ?? null)
  add('moonlink_table_copy_bytes', table.copy?.bytes ?? null)
  add('moonlink_table_copy_total_bytes', table.copy?.totalBytes ?? null)
  add('moonlink_table_copy_left_seconds', table.copy?.leftMs == null ? null : table.copy.leftMs / 1000)
  add('moonlink_table_verified', table.verified === null ? null : VERDICTS[table.verified.result])
  add('moonlink_table_verified_timestamp_seconds', table.verified === null ? null : table.verified.atMs / 1000)
  const unfit = table.unfit.reduce((sum, { values }) => sum + values, 0)
  add('moonlink_table_unfit_values', unfit)
  return samples
}

/** Exact below 2^53, which is 8 PiB of log. */
function position(lsn: string): number {
  return Number(parseLsn(lsn))
}
