import {
  formatLsn,
  formatTableName,
  isJsonObject,
  isMoonlinkError,
  maxLsn,
  MoonlinkError,
  type LoadedTable,
  type Logger,
  type Lsn,
  type TableName,
  type TableSchema,
  type TableShape,
  type TableStorage,
  type TimelineLsn,
} from '@moonlink/core'
import { FOREIGN_CHANGES } from '@moonlink/iceberg-writer'
import { PAUSED_PROPERTY, RESYNC_PROPERTY, SOURCE_STATE_PROPERTY, type Engine, type Mirror, type MirrorSpec } from '@moonlink/table-engine'
import type { ListedSourceTable, SourceHandle, Warehouse } from './parts.ts'
import { COPY_PENDING_PROPERTY, RecopiedStorage } from './recopied-storage.ts'
import { checkOwner, ownerProperties } from './table-owner.ts'

/** What slot and log still have, and what the last run left: enough to tell whether a table misses changes. */
export interface Coverage {
  /** Slot and log together have everything after this; 0 where nothing was ever let go of. */
  readonly floorLsn: Lsn
  /** Tables known to have everything up to `coveredLsn` in Iceberg. */
  readonly covered: ReadonlySet<string>
  readonly coveredLsn: Lsn
  /** Up to where they were committed then, where that is known. */
  readonly commits: Readonly<Record<string, Lsn>>
  /** Tables of which the source publishes other rows, or in other partitions, than when they were last mirrored. */
  readonly republished: ReadonlySet<string>
  /** The source's timeline that was read last, and where that began; null where either is not known. */
  readonly timeline: TimelineLsn | null
}

/** Errors of one Iceberg table that no other table shares: it alone is out of service. */
const tableErrors = new Set(['SCHEMA_MISMATCH', 'FORMAT_VERSION', 'TABLE_PARTITIONED', 'DELETES_UNSUPPORTED', 'TYPE_UNSUPPORTED'])

/** How often a table's shape may change between its being loaded and taken over. */
const TAKE_OVER_ATTEMPTS = 5

export interface OpenMirrorOptions {
  readonly engine: Engine
  readonly warehouse: Warehouse
  readonly source: SourceHandle
  readonly coverage: Coverage
  /** Copy even what was committed: the table was not mirrored for a while. */
  readonly again: boolean
  /** A table without rows yet takes on the shape that the source has now, and forgets why it was paused. */
  readonly reshapesEmpty?: boolean
  readonly logger: Logger
}

/**
 * Opens one mirror at its last commit. One that misses changes is to be made equal to its source again by a copy that is compared with it (one that is
 * append-only, by a copy that replaces it). One whose
 * source changed its shape while we were away goes on in the shape that it had, and follows the change in its place; where it kept no shape, it is paused.
 */
export async function openMirror(listed: ListedSourceTable, options: OpenMirrorOptions): Promise<Mirror> {
  const { engine, logger } = options
  const { isCompared, isRecopied, mismatch, reason, spec } = await openSpec(listed, options)
  const { schema, sourceState, storage } = spec
  if (isRecopied) logger.warn('the table is copied again', { table: formatTableName(listed.table), reason })
  // Whoever goes on from a commit need not ask.
  const asOfLsn = reason === null && storage.snapshot.committedLsn !== null ? null : await options.source.asOfLsn()
  const now = isCompared ? await options.source.evolved(listed.table, { schema, sourceState }) : null
  const mirror = await engine.addMirror({
    ...spec,
    ...(asOfLsn === null ? {} : { asOfLsn }),
    storage: isRecopied ? await RecopiedStorage.begin(storage, options.again) : storage,
    // Until it is being compared, too, it must not be taken for one that has what the stream has brought.
    ...(isCompared ? { resyncReason: reason! } : {}),
  })
  if (now !== null) await mirror.beginResync(reason!, { ...now, asOfLsn: asOfLsn!, isJustOpened: true })
  else if (mismatch !== null) await mirror.pause('SCHEMA_CHANGED', mismatch)
  return mirror
}

/**
 * As `openMirror`, beside a stream that may be open. One that goes on from its last commit takes nothing before the next stream. Returns why it misses changes and takes nothing until it is made equal
 * to its source, or null. `missed`: why that is so of one that has a commit and is not paused.
 */
export async function openBeside(
  listed: ListedSourceTable,
  options: OpenMirrorOptions & { readonly missed: string | null },
): Promise<string | null> {
  const { isCompared, isRecopied, mismatch, reason, spec } = await openSpec(listed, options)
  const awaited = isCompared || isRecopied ? reason : null
  const mirror = await options.engine.addMirror({
    ...spec,
    ...(spec.storage.snapshot.committedLsn === null ? { asOfLsn: await options.source.asOfLsn() } : {}),
    ...(awaited === null ? { joinsStream: true } : { resyncReason: awaited }),
  })
  if (awaited === null && mismatch !== null) await mirror.pause('SCHEMA_CHANGED', mismatch)
  return awaited
}

interface OpenedSpec {
  readonly spec: MirrorSpec & { readonly sourceState: string | null }
  readonly mismatch: string | null
  /** Why it misses changes; null where it does not. */
  readonly reason: string | null
  readonly isRecopied: boolean
  readonly isCompared: boolean
}

async function openSpec(listed: ListedSourceTable, options: OpenMirrorOptions & { readonly missed?: string | null }): Promise<OpenedSpec> {
  const { coverage, engine, source, warehouse } = options
  const { appendOnly, table } = listed
  const { kept, mismatch, storage } = await openStorage(listed, options)
  checkOwner(source.identity, warehouse.uri, table, storage.snapshot)
  const reason = recopyReason(formatTableName(table), storage, options)
  const isRecopied = reason !== null && mismatch === null && appendOnly
  return {
    spec: {
      table,
      schema: storage.snapshot.schema,
      sourceState: mismatch === null ? (kept ?? listed).sourceState : null,
      storage,
      appendOnly,
      // A stream that is open already does not go back for a copy.
      changesFromLsn: maxLsn(coverage.floorLsn, engine.streamedLsn),
      origin: originOf(options),
    },
    mismatch,
    reason,
    isRecopied,
    isCompared: reason !== null && !isRecopied && (mismatch === null || !appendOnly),
  }
}

/** LSNs and numbers of tables are of one database alone, and files of one warehouse. */
function originOf({ source, warehouse }: OpenMirrorOptions): string {
  const { database, systemIdentifier } = source.identity
  return JSON.stringify([systemIdentifier, database, warehouse.uri])
}

interface OpenedStorage {
  readonly storage: TableStorage
  /** The shape that the mirror had at its last commit. */
  readonly kept: TableShape | null
  /** Why the table's rows can't go on in any shape known. */
  readonly mismatch: string | null
}

async function openStorage(listed: ListedSourceTable, options: OpenMirrorOptions): Promise<OpenedStorage> {
  const { kept, refusal, storage } = await takeOver(listed, options)
  const reshaped = await reshapedEmpty(listed, kept, storage, options)
  if (reshaped !== null) return reshaped
  if (refusal === null) return { storage, kept, mismatch: null }
  return {
    storage,
    kept: null,
    mismatch: `${refusal.replace(/;.*$/, '')}; moonlink tables resync ${formatTableName(listed.table)} takes it on`,
  }
}

interface TakenOver {
  readonly storage: TableStorage
  readonly kept: TableShape | null
  /** Why the table's fields are not those of `kept`, or of the source where nothing was kept. */
  readonly refusal: string | null
}

/**
 * Opens the table's storage with the shape that the table has once it is taken over: its owner before may have committed another one after it was loaded. What came
 * in between is found by loading it again, which then comes to rest, since that owner can commit no more.
 */
async function takeOver(listed: ListedSourceTable, options: OpenMirrorOptions): Promise<TakenOver> {
  const { table } = listed
  for (let attempt = 1; ; attempt++) {
    const loaded = await loadTable(table, options.warehouse)
    const kept = await keptShape(listed, loaded, options)
    const taken = await openLoaded(listed, loaded, (kept ?? listed).schema, options)
    if (sourceStateOf(taken.storage.snapshot.properties) === sourceStateOf(propertiesOf(loaded))) return { ...taken, kept }
    if (attempt === TAKE_OVER_ATTEMPTS) {
      const name = formatTableName(table)
      const message = `the shape of Iceberg table ${name} changed each time that it was taken over; run one backend for a table.`
      throw new MoonlinkError('retry', 'TABLE_CHANGED', message, { context: { table: name } })
    }
  }
}

async function openLoaded(
  { table }: ListedSourceTable,
  loaded: LoadedTable | null,
  schema: TableSchema | null,
  { engine, source, warehouse }: OpenMirrorOptions,
): Promise<Omit<TakenOver, 'kept'>> {
  const opening = {
    properties: ownerProperties(source.identity, table),
    ledger: engine.ledger(formatTableName(table)),
    loaded,
    whenChanged: (what: string) => ({ [RESYNC_PROPERTY]: what }),
    sourceTimeline: () => source.history.certainTimeline,
  }
  try {
    return { storage: await warehouse.openTable(table, { ...opening, schema }), refusal: null }
  } catch (error) {
    if (!isMoonlinkError(error) || error.code !== 'SCHEMA_MISMATCH') throw error
    return { storage: await warehouse.openTable(table, { ...opening, schema: null }), refusal: error.message }
  }
}

/** Where that is asked for and the table has no rows yet. It is not made anew: what was under way to it could land in the new one. */
async function reshapedEmpty(
  { table }: ListedSourceTable,
  kept: TableShape | null,
  storage: TableStorage,
  { reshapesEmpty = false, source }: OpenMirrorOptions,
): Promise<OpenedStorage | null> {
  const { committedLsn, files, schema } = storage.snapshot
  if (!reshapesEmpty || committedLsn !== null || files.length > 0) return null
  const { shape } = await source.evolved(table, { schema, sourceState: kept?.sourceState ?? null })
  await storage.setProperties({ [PAUSED_PROPERTY]: '', [SOURCE_STATE_PROPERTY]: shape.sourceState ?? '' }, shape.schema)
  return { storage, kept: shape, mismatch: null }
}

async function keptShape(
  { table }: ListedSourceTable,
  loaded: LoadedTable | null,
  { source }: OpenMirrorOptions,
): Promise<TableShape | null> {
  const state = sourceStateOf(propertiesOf(loaded))
  return state === null ? null : await source.restore(table, state)
}

function sourceStateOf({ [SOURCE_STATE_PROPERTY]: state }: Readonly<Record<string, unknown>>): string | null {
  return typeof state === 'string' && state !== '' ? state : null
}

/** Whether slot and log have all that a table lacks in Iceberg, whatever it has there. */
export function isCovered(name: string, { covered, coveredLsn, floorLsn }: Coverage): boolean {
  return covered.has(name) && coveredLsn >= floorLsn
}

/**
 * Whether a commit has, or may have, what the source left behind when it went on to the timeline that was read last. The log has what came on that one, and a table that could not be opened when that was
 * found was not told that it is to be compared.
 */
function isOfLeftTimeline(name: string, committed: TimelineLsn | null, { covered, timeline }: Coverage): boolean {
  if (committed === null || timeline === null || committed.timeline >= timeline.timeline) return false
  return committed.lsn > timeline.lsn || !covered.has(name)
}

/** Why a table that has a commit must be copied again, or null where it may go on. */
function recopyReason(
  name: string,
  storage: TableStorage,
  options: OpenMirrorOptions & { readonly missed?: string | null },
): string | null {
  const { committedLsn, properties, sourceTimeline } = storage.snapshot
  if (committedLsn === null) return null
  if (options.again) return 'it was not mirrored for a while'
  if (isPausedByRequest(properties[PAUSED_PROPERTY])) return null
  if (properties[RESYNC_PROPERTY]) return properties[RESYNC_PROPERTY]
  if (properties[COPY_PENDING_PROPERTY] === 'true') return 'its last copy did not end'
  if (properties[PAUSED_PROPERTY]) return null
  if (options.missed) return options.missed
  const { floorLsn, republished, timeline } = options.coverage
  if (republished.has(name)) return 'its publication was altered or is another, or its partitions are others'
  if (isOfLeftTimeline(name, sourceTimeline, options.coverage))
    return `its last commit is of timeline ${sourceTimeline!.timeline}, and the source went on to timeline ${timeline!.timeline} without what it may have`
  if (committedLsn >= floorLsn) return null
  const knownLsn = options.coverage.commits[name] ?? committedLsn
  if (committedLsn < knownLsn)
    return `its last commit is at ${formatLsn(committedLsn)}, and was at ${formatLsn(knownLsn)}: its catalog has gone back, as where it was restored`
  if (isCovered(name, options.coverage)) return null
  return `neither the slot nor the change log has the changes from ${formatLsn(committedLsn)} to ${formatLsn(floorLsn)} any more`
}

/** Code of a pause that lasts until it is ended by request, too. */
export const PAUSED_BY_REQUEST = 'PAUSED'

/** Code of the pause that ends a copy for its table's drop: where that fails, the copy is begun again. */
export const COPY_ENDED = 'COPY_ENDED'

export function isPausedByRequest(reason: unknown): boolean {
  return typeof reason === 'string' && reason.startsWith(`${PAUSED_BY_REQUEST} `)
}

/** Whether a table stopped, by its reason, because others have changed its Iceberg table since that was opened: it has to be opened again. */
export function isOutdated(reason: string | null): boolean {
  return FOREIGN_CHANGES.has((reason ?? '').split(' ', 1)[0])
}

/** Whether a mirror that is opened now is paused, as the last run left it. */
export async function isLeftPaused({ table }: ListedSourceTable, warehouse: Pick<Warehouse, 'catalog'>): Promise<boolean> {
  const properties = propertiesOf(await loadTable(table, warehouse))
  if (isPausedByRequest(properties[PAUSED_PROPERTY])) return true
  return Boolean(properties[PAUSED_PROPERTY]) && !properties[RESYNC_PROPERTY] && properties[COPY_PENDING_PROPERTY] !== 'true'
}

function loadTable({ schema, name }: TableName, { catalog }: Pick<Warehouse, 'catalog'>): Promise<LoadedTable | null> {
  return catalog.load({ namespace: schema, name })
}

function propertiesOf(loaded: LoadedTable | null): Readonly<Record<string, unknown>> {
  const properties = loaded?.metadata['properties']
  return properties !== undefined && isJsonObject(properties) ? properties : {}
}

/** Whether an error concerns one Iceberg table and leaves the others alone. */
export function isTableError(error: unknown): boolean {
  return isMoonlinkError(error) && (error.kind === 'corrupt' || tableErrors.has(error.code))
}
