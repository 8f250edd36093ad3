import { formatTableName, isMoonlinkError, type ChangeLog, type Lsn } from '@moonlink/core'
import type { BackendParts } from './backend-parts.ts'
import { floorLsn } from './floor-lsn.ts'
import { refuseLostCatalog } from './lost-catalog.ts'
import type { Coverage } from './mirrors.ts'
import { publishLockTimeoutMs } from './mirror-set.ts'
import type { ListedSourceTable, SourceHandle } from './parts.ts'
import { lookAtKeptSlot } from './slot-loss.ts'
import type { BackendState } from './state.ts'
import { stateOfSource } from './state-of-source.ts'
import { chooseTables, listWith, type ChosenTables, type WantedTables } from './table-set.ts'

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
  // What can't be mirrored is refused before anything is waited for.
  const listed = await listChosen(source, wanted)
  source.resumeMarks(state?.published ?? {})
  // Who else mirrors from this slot is left alone: publishing would take its tables away, and opening them would take them over.
  await source.waitUntilUnused()
  if (wanted.known.length > 0) await lookAtKeptSlot(parts)
  const { chosen, locked: lockedTables, refused, slotLsn } = await publishChosen(source, wanted, listed)
  const lockedNames = new Set(lockedTables.map(formatTableName))
  const isLocked = ({ table }: ListedSourceTable) => lockedNames.has(formatTableName(table))
  const published = chosen.filter((listed) => !isLocked(listed))
  await source.waitUntilUnused()
  const log = await parts.openLog(slotLsn)
  const republished = published.map(({ table }) => table).filter((table) => source.isRepublished(table))
  const coverage = coverageOf(state, log, slotLsn, new Set(republished.map(formatTableName)))
  return { state, log, slotLsn, coverage, published, locked: chosen.filter(isLocked), refused }
}

async function listChosen(source: SourceHandle, wanted: WantedTables): Promise<ChosenTables> {
  return chooseTables(await listWith(source, [...wanted.configured, ...wanted.added]), wanted)
}

/** Chooses the tables anew where one went, or can't be mirrored any more, since they were listed. */
async function publishChosen(source: SourceHandle, wanted: WantedTables, listed: ChosenTables) {
  for (let found = listed; ;) {
    const tables = found.chosen.map(({ table }) => table)
    try {
      return { ...found, ...(await source.prepare(tables, publishLockTimeoutMs)) }
    } catch (error) {
      if (!isMoonlinkError(error, 'invalid')) throw error
      const isChosen = ({ chosen }: ChosenTables) => chosen.some(({ table }) => formatTableName(table) === error.context['table'])
      if (!isChosen(found)) throw error
      found = await listChosen(source, wanted)
      if (isChosen(found)) throw error
    }
  }
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
