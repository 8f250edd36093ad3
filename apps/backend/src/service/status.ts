import { formatLsn, formatTableName, maxLsn, type LogStatus, type Lsn, type TableName } from '@moonlink/core'
import type { MirrorStatus } from '@moonlink/table-engine'
import type { StatusReport, TableStatusReport } from '../http/schemas.ts'
import type { VerifyOutcome } from '../verify/verification.ts'
import { verifiedReport } from '../verify/report.ts'
import type { CopyReport } from './copy-progress.ts'
import type { SourcePosition, SourceIdentity, SourceWait, UnfitValues } from './parts.ts'

export interface StatusInputs {
  readonly identity: SourceIdentity
  /** What is worth knowing of the source. */
  readonly sourceNotes: readonly string[]
  readonly warehouse: string
  /** Why no stream is open; null where one is. */
  readonly trouble: string | null
  readonly position: SourcePosition
  /** Age of what the slot has not been told to forget. */
  readonly slotLagMs: number
  /** For how long what is applied has been behind the source. */
  readonly behindMs: number
  readonly freshnessMs: number | null
  readonly mirrors: readonly MirrorStatus[]
  /** How far a table's copy is, with the rows it has; null where none runs. */
  readonly copy: (table: string, rows: number) => CopyReport | null
  /** Tables that could not be opened at all, and why. */
  readonly unopened: ReadonlyMap<string, string>
  /** Tables that are locked in the source, and what they wait for. */
  readonly locked: ReadonlyMap<string, string>
  /** Each table's last comparison with the source. */
  readonly verified: ReadonlyMap<string, VerifyOutcome>
  readonly waits: readonly SourceWait[]
  /** What a table waits for, and what ends that; null where it does not. */
  readonly waitingFor: (table: string) => string | null
  /** What is worth knowing of a table's mirror. */
  readonly notes: (table: string) => readonly string[]
  readonly unfit: (table: TableName) => readonly UnfitValues[]
  /** Null where there is none. */
  readonly log: (LogStatus & { readonly durableLsn: Lsn | null }) | null
}

export function statusReport(inputs: StatusInputs): StatusReport {
  const { identity, position } = inputs
  const byName = inputs.mirrors.toSorted((a, b) => (formatTableName(a.table) < formatTableName(b.table) ? -1 : 1))
  const mirrored = byName.map((mirror) => mirrorReport(mirror, inputs))
  const opened = new Set(mirrored.map(({ name }) => name))
  const unopened = [...inputs.unopened].flatMap(([name, reason]) =>
    opened.has(name) ? [] : [unopenedReport(name, { state: 'failed', reason, waitingFor: null })],
  )
  const locked = [...inputs.locked].flatMap(([name, waitingFor]) =>
    opened.has(name) ? [] : [unopenedReport(name, { state: 'copying', reason: null, waitingFor })],
  )
  return {
    source: {
      database: identity.database,
      serverVersion: identity.serverVersion,
      slot: identity.slot,
      publication: identity.publication,
      connected: inputs.trouble === null,
      reason: inputs.trouble,
      waits: [
        ...new Set([...inputs.waits.map(({ reason }) => reason), ...Array.from(inputs.locked, ([name, reason]) => `${name}: ${reason}`)]),
      ],
      notes: [...inputs.sourceNotes],
      sourceLsn: formatLsn(position.sourceLsn),
      confirmedFlushLsn: position.confirmedFlushLsn === null ? null : formatLsn(position.confirmedFlushLsn),
      lagBytes: position.retainedBytes,
      lagMs: inputs.slotLagMs,
      freshnessMs: inputs.freshnessMs === null ? null : Math.round(inputs.freshnessMs),
      slotStatus: position.slot?.walStatus ?? null,
      slotHeadroomBytes: position.slot?.headroomBytes ?? null,
    },
    log: logReport(inputs.log),
    warehouse: inputs.warehouse,
    tables: [...mirrored, ...unopened, ...locked].sort((a, b) => (a.name < b.name ? -1 : 1)),
  }
}

function logReport(log: StatusInputs['log']): StatusReport['log'] {
  if (log === null) return null
  const { byteSize, maxBytes, range, trouble } = log
  return {
    startLsn: range === null ? null : formatLsn(range.startLsn),
    endLsn: range === null ? null : formatLsn(range.endLsn),
    bytes: byteSize,
    maxBytes: Math.floor(maxBytes),
    reason: trouble,
  }
}

function mirrorReport(mirror: MirrorStatus, inputs: StatusInputs): TableStatusReport {
  const name = formatTableName(mirror.table)
  const streaming = mirror.state === 'streaming'
  // A table that takes no changes is as far as its last commit; so is every table until the stream has begun.
  const appliedLsn = streaming ? maxLsn(mirror.appliedLsn, mirror.committedLsn ?? 0n) : mirror.committedLsn
  const lsn = (value: Lsn | null) => (value === null ? null : formatLsn(value))
  const logged = streaming ? (inputs.log?.durableLsn ?? 0n) : 0n
  return {
    name,
    state: mirror.state,
    reason: mirror.reason,
    waitingFor: inputs.waitingFor(name),
    notes: [...inputs.notes(name)],
    rows: mirror.rows,
    appliedLsn: lsn(appliedLsn),
    durableLsn: lsn(mirror.durableLsn === null ? null : maxLsn(mirror.durableLsn, logged)),
    committedLsn: lsn(mirror.committedLsn),
    lagBytes: Number(maxLsn(inputs.position.sourceLsn - (appliedLsn ?? 0n), 0n)),
    lagMs: inputs.behindMs,
    metadataLocation: mirror.metadataLocation,
    snapshotId: mirror.snapshotId === null ? null : mirror.snapshotId.toString(),
    dataFiles: mirror.dataFiles,
    deletionVectors: mirror.deletionVectors,
    memoryRows: mirror.memoryRows,
    memoryBytes: mirror.memoryBytes,
    spooledBytes: mirror.spooledBytes,
    lastCommitTimeMs: mirror.lastCommitTimeMs,
    copy: mirror.state === 'copying' ? inputs.copy(name, mirror.copiedRows) : null,
    verified: verifiedReport(inputs.verified.get(name)),
    unfit: [...inputs.unfit(mirror.table)],
  }
}

function unopenedReport(name: string, why: Pick<TableStatusReport, 'state' | 'reason' | 'waitingFor'>): TableStatusReport {
  return {
    name,
    ...why,
    notes: [],
    rows: 0,
    appliedLsn: null,
    durableLsn: null,
    committedLsn: null,
    lagBytes: 0,
    lagMs: 0,
    metadataLocation: null,
    snapshotId: null,
    dataFiles: 0,
    deletionVectors: 0,
    memoryRows: 0,
    memoryBytes: 0,
    spooledBytes: 0,
    lastCommitTimeMs: null,
    copy: null,
    verified: null,
    unfit: [],
  }
}
