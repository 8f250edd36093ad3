import { formatTableName, type ChangeLog, type Lsn } from '@moonlink/core'
import type { BackendParts } from './backend-parts.ts'
import { floorLsn } from './floor-lsn.ts'
import { refuseLostCatalog } from './lost-catalog.ts'
import type { Coverage } from './mirrors.ts'
import { publishLockTimeoutMs } from './mirror-set.ts'
import type { ListedSourceTable } from './parts.ts'
import { lookAtKeptSlot } from './slot-loss.ts'
import type { BackendState } from './state.ts'
import { stateOfSource } from './state-of-source.ts'
import { chooseTables, listWith } from './table-set.ts'

/** What a backend begins with. */
export interface FoundAtStart {
  /** What the last run left; null where there was none of this source. */
  readonly state: BackendState | null
  readonly log: ChangeLog | null
  /** Where the slot is. */
  readonly slotLsn: Lsn
  readonly coverage: Coverage
  /** Tables to mirror that are published now, and those that other sessions keep locked. */
  readonly published: readonly ListedSourceTable[]
  readonly locked: readonly ListedSourceTable[]
  /** Tables mirrored before that can't be any more, and why. */
  readonly refused: ReadonlyMap<string, string>
}

/** Reads what the last run left, publishes the tables to mirror, and opens the log, which the caller closes. */
export async function findAtStart(parts: BackendParts): Promise<FoundAtStart> {
  const { config, logger, source, stateStore, warehouse } = parts
  const state = stateOfSource(await stateStore.read(), source.identity, logger)
  if (state !== null && config.catalog.onLost === 'stop') await refuseLostCatalog(state, warehouse)
  const wanted = {
    configured: config.source.tables,
    added: state?.added ?? [],
    dropped: state?.dropped ?? [],
    known: [...(state?.mirrored ?? []), ...(state?.known ?? [])],
  }
  const { chosen, refused } = chooseTables(await listWith(source, [...wanted.configured, ...wanted.added]), wanted)
  source.resumeMarks(state?.published ?? {})
  // Who else mirrors from this slot is left alone: publishing would take its tables away, and opening them would take them over.
  await source.waitUntilUnused()
  if (wanted.known.length > 0) await lookAtKeptSlot(parts)
  const { locked: lockedTables, slotLsn } = await source.prepare(
    chosen.map(({ table }) => table),
    publishLockTimeoutMs,
  )
  const lockedNames = new Set(lockedTables.map(formatTableName))
  const isLocked = ({ table }: ListedSourceTable) => lockedNames.has(formatTableName(table))
  const published = chosen.filter((listed) => !isLocked(listed))
  await source.waitUntilUnused()
  const log = await parts.openLog(slotLsn)
  const republished = published.map(({ table }) => table).filter((table) => source.isRepublished(table))
  const coverage = coverageOf(state, log, slotLsn, new Set(republished.map(formatTableName)))
  return { state, log, slotLsn, coverage, published, locked: chosen.filter(isLocked), refused }
}

function coverageOf(state: BackendState | null, log: ChangeLog | null, slotLsn: Lsn, republished: ReadonlySet<string>): Coverage {
  const { coveredLsn = 0n, timeline = null, timelineSince = null } = state ?? {}
  return {
    floorLsn: floorLsn(log, slotLsn, coveredLsn),
    coveredLsn,
    covered: new Set(state?.mirrored),
    commits: state?.commits ?? {},
    republished,
    timeline: timeline === null || timelineSince === null ? null : { timeline, lsn: timelineSince },
  }
}
