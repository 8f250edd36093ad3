import {
  isJsonObject,
  isMoonlinkError,
  MoonlinkError,
  parseJsonLossless,
  randomUuid,
  silentLogger,
  systemClock,
  systemRandom,
  type Catalog,
  type Clock,
  type CreateTable,
  type JsonObject,
  type LoadedTable,
  type Logger,
  type ObjectStore,
  type Random,
  type TableIdentifier,
} from '@moonlink/core'
import { applyUpdates } from '../metadata/apply-updates.ts'
import { newTableMetadata } from '../metadata/new-table.ts'
import { directoryName, nameOfDirectory, tableLocation } from './directory-names.ts'
import { deletesOldMetadata, oldestLogged, withMetadataLog } from './metadata-log.ts'
import { versionOf, VersionedMetadata, type MetadataVersion } from './versioned-metadata.ts'

export interface FileCatalogOptions {
  readonly store: ObjectStore
  /** Absolute URI of the directory that holds the namespaces. */
  readonly warehouse: string
  readonly clock?: Clock
  readonly random?: Random
  readonly logger?: Logger
}

/**
 * A catalog in the object store itself: `<warehouse>/<namespace>/<table>/metadata/vN.metadata.json` and `version-hint.text`, the
 * layout that Spark's `hadoop` catalog and DuckDB's `iceberg_scan` open by path.
 *
 * A commit is one conditional create of the next version, so of several writers at once exactly one wins, Spark among them. The hint
 * is only that: loading looks for versions beyond it. Nothing is ever overwritten but the hint.
 *
 * A writer that stays away, between reading a version and writing the next, for as long as others need to commit and clean up
 * `write.metadata.previous-versions-max` versions, finds nothing in its way: it takes back what it wrote.
 *
 * Not promised: that nobody who looks for that very version sees it until then; keep that property well above one.
 */
export class FileCatalog implements Catalog {
  private readonly store: ObjectStore
  private readonly warehouse: string
  private readonly clock: Clock
  private readonly random: Random
  private readonly logger: Logger
  /** Locations of tables of which no old metadata is left behind, as far as is known here. */
  private readonly cleaned = new Set<string>()
  /** By location, the version that was the newest when this catalog looked last: where it looks first. */
  private readonly newest = new Map<string, number>()

  constructor(options: FileCatalogOptions) {
    this.store = options.store
    this.warehouse = options.warehouse.replace(/\/+$/, '')
    this.clock = options.clock ?? systemClock
    this.random = options.random ?? systemRandom
    this.logger = options.logger ?? silentLogger
  }

  /** Where a table of that name lives; its directory's URI without a slash at the end. */
  locationOf(table: TableIdentifier): string {
    return tableLocation(this.warehouse, table)
  }

  async load(table: TableIdentifier): Promise<LoadedTable | null> {
    const found = await this.current(table)
    return found === null ? null : { metadataLocation: found.uri, metadata: parseMetadata(found.bytes, found.uri), config: {} }
  }

  async create(table: TableIdentifier, options: CreateTable): Promise<LoadedTable> {
    const location = this.locationOf(table)
    if (options.location !== undefined && options.location.replace(/\/+$/, '') !== location) {
      throw new MoonlinkError(
        'invalid',
        'LOCATION_FIXED',
        `a file catalog keeps ${nameOf(table)} at ${location}; leave the location out.`,
        {
          context: { location: options.location },
        },
      )
    }
    if ((await this.load(table)) !== null) throw tableExists(table)
    const metadata = newTableMetadata({
      uuid: randomUuid(this.random),
      location,
      schema: options.schema,
      properties: options.properties,
      nowMs: this.clock.nowMs(),
    })
    const versions = this.versions(table)
    const written = await versions.write(1, metadata)
    if (written === null) throw tableExists(table)
    this.newest.set(location, 1)
    await versions.hint(1)
    return { metadataLocation: written, metadata, config: {} }
  }

  async drop(table: TableIdentifier, purge: boolean, beforeEach: () => Promise<void> = async () => undefined): Promise<void> {
    if (!purge) return this.versions(table).retire(randomUuid(this.random))
    // What makes it a table goes first, so that one that is removed only in part is none.
    await this.versions(table).remove(beforeEach)
    for await (const object of this.store.list(`${this.locationOf(table)}/`)) {
      await beforeEach()
      await this.store.delete(object.uri)
    }
  }

  async list(namespace: string): Promise<readonly TableIdentifier[]> {
    const prefix = `${this.warehouse}/${directoryName(namespace)}/`
    const names = new Set<string>()
    for await (const object of this.store.list(prefix)) {
      const [directory, folder, file, ...deeper] = object.uri.slice(prefix.length).split('/')
      if (folder === 'metadata' && deeper.length === 0 && versionOf(file) !== null) names.add(nameOfDirectory(directory))
    }
    return [...names].toSorted().map((name) => ({ namespace, name }))
  }

  async commit(table: TableIdentifier, requirements: readonly JsonObject[], updates: readonly JsonObject[]): Promise<LoadedTable> {
    const versions = this.versions(table)
    const current = await this.current(table)
    if (current === null) {
      throw new MoonlinkError('invalid', 'TABLE_NOT_FOUND', `there is no table ${nameOf(table)} at ${this.locationOf(table)}.`)
    }
    const base = parseMetadata(current.bytes, current.uri)
    const updated = applyUpdates(base, requirements, updates, this.clock.nowMs())
    const { metadata, dropped } = withMetadataLog(base, current.uri, updated)
    const written = await this.writeNext(versions, current, metadata)
    if (written === null) {
      throw new MoonlinkError(
        'conflict',
        'COMMIT_CONFLICT',
        `another writer committed version ${current.version + 1} of ${nameOf(table)}. Load it again.`,
      )
    }
    const location = this.locationOf(table)
    this.newest.set(location, current.version + 1)
    const [left] = await Promise.all([this.leftBehind(versions, location, metadata, dropped), versions.hint(current.version + 1)])
    // Not before the hint is past them.
    await this.remove(location, left)
    return { metadataLocation: written, metadata, config: {} }
  }

  private async current(table: TableIdentifier): Promise<MetadataVersion | null> {
    const location = this.locationOf(table)
    const found = await this.versions(table).current(this.newest.get(location))
    if (found === null) this.newest.delete(location)
    else this.newest.set(location, found.version)
    return found
  }

  private versions(table: TableIdentifier): VersionedMetadata {
    return new VersionedMetadata(this.store, `${this.locationOf(table)}/metadata`, this.logger)
  }

  /** Null where another writer came first. A failed write may have landed all the same (a timeout), so its outcome is unknown. */
  private async writeNext(versions: VersionedMetadata, base: MetadataVersion, metadata: JsonObject): Promise<string | null> {
    const version = base.version + 1
    try {
      const written = await versions.write(version, metadata)
      return written === null || (await this.isNewest(versions, base, written)) ? written : null
    } catch (cause) {
      if (!isMoonlinkError(cause, 'retry')) throw cause
      throw new MoonlinkError('retry', 'COMMIT_UNKNOWN', `writing version ${version} failed; it may have landed: ${cause.message}`, {
        cause,
      })
    }
  }

  /** While this writer was away, others may have gone past the version that it has written, and cleaned theirs of that number up: it is taken back then. */
  private async isNewest(versions: VersionedMetadata, base: MetadataVersion, written: string): Promise<boolean> {
    if ((await this.store.head(base.uri)) !== null) return true
    const newest = await versions.current()
    if (newest === null || newest.uri === written) return true
    await this.store.delete(written)
    return false
  }

  /** Versions that the log does not name any more; with a table's first commit here also those that an earlier process left. */
  private async leftBehind(
    versions: VersionedMetadata,
    location: string,
    metadata: JsonObject,
    dropped: readonly string[],
  ): Promise<readonly string[]> {
    if (!deletesOldMetadata(metadata)) return []
    if (this.cleaned.has(location)) return dropped
    try {
      const left = await versions.before(oldestLogged(metadata))
      this.cleaned.add(location)
      return left
    } catch (error) {
      this.logger.warn('old table metadata was not looked for; done with the next commit', { location, error: String(error) })
      return []
    }
  }

  private async remove(location: string, uris: readonly string[]): Promise<void> {
    for (const uri of uris) {
      try {
        await this.store.delete(uri)
      } catch (error) {
        this.cleaned.delete(location)
        this.logger.warn('old table metadata was not removed', { uri, error: String(error) })
      }
    }
  }
}

function parseMetadata(bytes: Uint8Array, uri: string): JsonObject {
  const metadata = parseJsonLossless(new TextDecoder().decode(bytes), uri)
  if (!isJsonObject(metadata)) throw new MoonlinkError('corrupt', 'METADATA_MALFORMED', `${uri} is not an object.`, { context: { uri } })
  return metadata
}

function nameOf(table: TableIdentifier): string {
  return `${table.namespace}.${table.name}`
}

function tableExists(table: TableIdentifier): MoonlinkError {
  return new MoonlinkError('conflict', 'TABLE_EXISTS', `table ${nameOf(table)} exists already.`, { context: { ...table } })
}
