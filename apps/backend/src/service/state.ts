import { crc32 } from 'node:zlib'
import { formatLsn, MoonlinkError, parseLsn, type Lsn } from '@moonlink/core'
import { z } from 'zod'

/** Raised whenever an older Moonlink would misread the file. */
const VERSION = 4

const common = {
  source: z.object({ systemIdentifier: z.string(), database: z.string(), slot: z.string() }),
  /** Tables mirrored when this was written. */
  mirrored: z.array(z.string()),
  /** All that were known, those that take no changes among them. */
  known: z.array(z.string()).default([]),
  /** Tables that `tables add` and `tables drop` named, over those of the configuration. */
  added: z.array(z.string()),
  dropped: z.array(z.string()),
  /** Of those dropped, the ones whose purge has not ended, by name. */
  purging: z.record(z.string(), z.object({ uuid: z.string().nullable(), metadataLocation: z.string().nullable() })).default({}),
  /** Up to where tables of `mirrored` were committed, where that was noted. */
  commits: z.record(z.string(), z.string()).default({}),
  /** How the source published a table, where that was noted. */
  published: z.record(z.string(), z.string()).default({}),
  /** On which of the server's timelines lies what was read, where that was noted. */
  timeline: z.number().int().nonnegative().nullable().default(null),
  /** Where that one began, where that was noted. */
  timelineSince: z.string().nullable().default(null),
}

const stateSchema = z.object({
  version: z.literal(VERSION),
  /** Each of `mirrored` has everything up to here in Iceberg, or is not copied yet. */
  coveredLsn: z.string(),
  ...common,
})

/** Before purges were kept: an earlier Moonlink would forget them. */
const thirdSchema = z.object({ version: z.literal(3), coveredLsn: z.string(), ...common })

/** Versions without a checksum: a bit of theirs that flips could say that Iceberg has what it lacks. */
const unchecked = { ...common, crc32: z.never().optional() }
/** Before there was a log: the slot was told what Iceberg has. */
const firstSchema = z
  .object({ version: z.literal(1), acknowledgedLsn: z.string(), ...unchecked })
  .transform(({ acknowledgedLsn, ...rest }) => ({ ...rest, coveredLsn: acknowledgedLsn }))
const secondSchema = z.object({ version: z.literal(2), coveredLsn: z.string(), ...unchecked })

const anySchema = z.union([stateSchema, thirdSchema, secondSchema, firstSchema])

/** What is known of an Iceberg table that is to be removed with its files. */
export interface Purge {
  /** Null where the catalog had no table of that name, or one that can't be read. */
  readonly uuid: string | null
  /** Its metadata as of when it was to be removed from the catalog, which names its files; null while nothing is removed, or where it is not known. */
  readonly metadataLocation: string | null
}

/** What a run leaves for the next, beside what the Iceberg tables say of themselves. */
export interface BackendState {
  readonly source: { readonly systemIdentifier: string; readonly database: string; readonly slot: string }
  readonly coveredLsn: Lsn
  readonly mirrored: readonly string[]
  readonly known: readonly string[]
  readonly added: readonly string[]
  readonly dropped: readonly string[]
  readonly purging: Readonly<Record<string, Purge>>
  readonly commits: Readonly<Record<string, Lsn>>
  readonly published: Readonly<Record<string, string>>
  readonly timeline: number | null
  readonly timelineSince: Lsn | null
}

/** Where a run leaves its state. It is written before what it states takes effect, so that it never promises too little. */
export interface StateStore {
  /**
   * The state of the last run, or null where there was none. Throws `corrupt`/`STATE_CORRUPT`, or `invalid`/`STATE_VERSION` where a later Moonlink
   * wrote it.
   */
  read(): Promise<BackendState | null>
  /** Survives a crash when it resolves. */
  write(state: BackendState): Promise<void>
}

export function encodeState({ coveredLsn, ...rest }: BackendState): string {
  const stored: z.output<typeof stateSchema> = {
    version: VERSION,
    coveredLsn: formatLsn(coveredLsn),
    source: { ...rest.source },
    mirrored: [...rest.mirrored],
    known: [...rest.known],
    added: [...rest.added],
    dropped: [...rest.dropped],
    purging: { ...rest.purging },
    commits: Object.fromEntries(Object.entries(rest.commits).map(([name, lsn]) => [name, formatLsn(lsn)])),
    published: { ...rest.published },
    timeline: rest.timeline,
    timelineSince: rest.timelineSince === null ? null : formatLsn(rest.timelineSince),
  }
  return JSON.stringify({ ...stored, crc32: checksum(stored) }, null, 2)
}

/** Of what is stored, whatever the spaces between. */
function checksum(stored: object): string {
  return crc32(JSON.stringify(stored)).toString(16).padStart(8, '0')
}

/** `place` is for messages. */
export function parseState(text: string, place: string): BackendState {
  try {
    const parsed: unknown = JSON.parse(text)
    refuseLater(parsed, place)
    requireWhole(parsed)
    const { coveredLsn, source, mirrored, known, added, dropped, purging, published, timeline, ...rest } = anySchema.parse(parsed)
    const timelineSince = rest.timelineSince === null ? null : parseLsn(rest.timelineSince)
    const commits = Object.fromEntries(Object.entries(rest.commits).map(([name, lsn]) => [name, parseLsn(lsn)]))
    return {
      coveredLsn: parseLsn(coveredLsn),
      source,
      mirrored,
      known,
      added,
      dropped,
      purging,
      commits,
      published,
      timeline,
      timelineSince,
    }
  } catch (error) {
    if (error instanceof MoonlinkError && error.code === 'STATE_VERSION') throw error
    const message = `${place} is damaged, or no state of ours; put back a copy of it, or remove it, and tables that may miss changes are made equal to the source again; what tables add and tables drop changed has to be said again then.`
    throw new MoonlinkError('corrupt', 'STATE_CORRUPT', message, { cause: error })
  }
}

function refuseLater(parsed: unknown, place: string): void {
  const { crc32: written, ...stored } = (parsed ?? {}) as { readonly version?: unknown; readonly crc32?: unknown }
  const { version } = stored
  if (typeof version !== 'number' || version <= VERSION) return
  if (written === checksum({ ...stored, version: VERSION })) throw new Error('the number of its version is another')
  const message = `${place} has version ${version}, and this Moonlink reads up to ${VERSION}; start the later Moonlink that wrote it.`
  throw new MoonlinkError('invalid', 'STATE_VERSION', message, { context: { version } })
}

function requireWhole(parsed: unknown): void {
  const { crc32: written, ...stored } = parsed as { readonly version?: unknown; readonly crc32?: unknown }
  if (Number(stored.version) >= 3 && written !== checksum(stored)) throw new Error('its checksum is another')
}
