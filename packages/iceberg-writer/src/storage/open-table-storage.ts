import {
  isMoonlinkError,
  MoonlinkError,
  silentLogger,
  systemClock,
  systemRandom,
  typesEqual,
  type Catalog,
  type Clock,
  type FileLedger,
  type LoadedTable,
  type LocalFiles,
  type Logger,
  type ObjectStore,
  type Random,
  type TableIdentifier,
  type TableName,
  type TableSchema,
  type TableStorage,
} from '@moonlink/core'
import { schemaFromJson, schemaToJson } from '../metadata/schema-json.ts'
import { acceptingBarePaths } from './bare-paths.ts'
import { IcebergTableStorage } from './iceberg-table-storage.ts'
import { namingFile } from './naming-file.ts'
import type { ParquetPort } from './parquet-port.ts'
import { DEFAULT_MANIFEST_LIMITS, type ManifestLimits } from './manifest-limits.ts'
import { currentSchemaJson } from './table-state.ts'

export interface OpenTableStorageOptions {
  /** The table's name in the source. */
  readonly table: TableName
  /** Its name in the catalog. Default: the same, the schema as namespace. */
  readonly identifier?: TableIdentifier
  /** Needed to create the table; an existing one must have the same fields. Without it, an existing table's own schema holds. */
  readonly schema?: TableSchema
  /** The table as the catalog has it; null where it has none. Default: it is loaded. */
  readonly loaded?: LoadedTable | null
  readonly catalog: Catalog
  readonly store: ObjectStore
  readonly parquet: ParquetPort
  readonly clock?: Clock
  readonly random?: Random
  readonly logger?: Logger
  /** Where a created table shall live. Default: the catalog's choice. */
  readonly location?: string
  /** Properties of a created table, besides our own defaults. */
  readonly properties?: Readonly<Record<string, string>>
  /** Files for `scanFile` and `fetchRows`. Default: each call reads the whole object from the store. */
  readonly localFiles?: LocalFiles
  /** Keeps account of files that commits write and drop. Default: of what a failed commit leaves behind, some may stay. */
  readonly ledger?: FileLedger
  /** Becomes the table's only owner: nobody who opened it before can commit to it any more. Default: false. */
  readonly takesOver?: boolean
  /** The source's timeline of which the LSNs of commits are, which their summaries name; null where that is not known. */
  readonly sourceTimeline?: () => number | null
  /** Properties that the table gets by being taken over where others have changed its rows since the last commit, told what they did. */
  readonly whenChanged?: (what: string) => Readonly<Record<string, string>>
  /** When manifests are merged. */
  readonly manifestLimits?: ManifestLimits
}

/** Properties of a table that we create: other engines write deletion vectors too, and old metadata files do not pile up. */
const DEFAULT_PROPERTIES: Readonly<Record<string, string>> = {
  'write.delete.mode': 'merge-on-read',
  'write.update.mode': 'merge-on-read',
  'write.merge.mode': 'merge-on-read',
  'write.parquet.compression-codec': 'zstd',
  'write.metadata.delete-after-commit.enabled': 'true',
  'write.metadata.previous-versions-max': '100',
}

/**
 * Opens a mirror's Iceberg table, creating it where there is none and `schema` is given.
 *
 * Throws `invalid`: `TABLE_NOT_FOUND`, `SCHEMA_MISMATCH`, `FORMAT_VERSION`, `TABLE_PARTITIONED`, `DELETES_UNSUPPORTED` (position or
 * equality delete files of another engine), `TYPE_UNSUPPORTED`; `corrupt` naming a damaged file; and what the catalog and the store throw.
 */
export async function openTableStorage(options: OpenTableStorageOptions): Promise<TableStorage> {
  const identifier = options.identifier ?? { namespace: options.table.schema, name: options.table.name }
  const existing = options.loaded === undefined ? await options.catalog.load(identifier) : options.loaded
  const { loaded, isNew } = existing === null ? await createTable(options, identifier) : { loaded: existing, isNew: false }
  try {
    return await openLoaded(options, identifier, loaded, options.takesOver === true && !isNew)
  } catch (error) {
    throw namingFile(loaded.metadataLocation, error)
  }
}

async function openLoaded(
  options: OpenTableStorageOptions,
  identifier: TableIdentifier,
  loaded: LoadedTable,
  takesOver: boolean,
): Promise<TableStorage> {
  const found = schemaFromJson(currentSchemaJson(loaded.metadata))
  if (options.schema) checkSameFields(options.schema, found, identifier)
  const parts = {
    table: options.table,
    identifier,
    identifierFieldIds: options.schema?.identifierFieldIds ?? null,
    catalog: options.catalog,
    store: acceptingBarePaths(options.store),
    parquet: options.parquet,
    clock: options.clock ?? systemClock,
    random: options.random ?? systemRandom,
    logger: options.logger ?? silentLogger,
    localFiles: options.localFiles ?? null,
    ledger: options.ledger ?? null,
    manifestLimits: options.manifestLimits ?? DEFAULT_MANIFEST_LIMITS,
    sourceTimeline: options.sourceTimeline ?? (() => null),
    whenChanged: options.whenChanged ?? (() => ({})),
  }
  const storage = await IcebergTableStorage.open(parts, loaded, takesOver)
  // The owner before may have changed them just before.
  if (options.schema && takesOver) checkSameFields(options.schema, storage.snapshot.schema, identifier)
  return storage
}

async function createTable(
  options: OpenTableStorageOptions,
  identifier: TableIdentifier,
): Promise<{ loaded: LoadedTable; isNew: boolean }> {
  const { catalog, schema, location } = options
  if (!schema) {
    throw new MoonlinkError('invalid', 'TABLE_NOT_FOUND', `there is no Iceberg table ${identifier.namespace}.${identifier.name}.`)
  }
  const properties = { ...DEFAULT_PROPERTIES, ...options.properties }
  try {
    const request = { schema: schemaToJson(schema), properties, ...(location === undefined ? {} : { location }) }
    return { loaded: await catalog.create(identifier, request), isNew: true }
  } catch (error) {
    if (!isMoonlinkError(error) || error.code !== 'TABLE_EXISTS') throw error
    const theirs = await catalog.load(identifier)
    if (theirs === null) throw hidden(identifier, error)
    return { loaded: theirs, isNew: false }
  }
}

/** Some catalogs say of what may not be read that it is not there. */
function hidden({ namespace, name }: TableIdentifier, cause: unknown): MoonlinkError {
  const message = `the catalog has a table ${namespace}.${name}, and does not show it: give these credentials the privilege to read and write it.`
  return new MoonlinkError('invalid', 'CATALOG_DENIED', message, { context: { table: `${namespace}.${name}` }, cause })
}

function checkSameFields(wanted: TableSchema, found: TableSchema, identifier: TableIdentifier): void {
  const differs = wanted.fields.find((field, index) => {
    const other = found.fields[index]
    return other?.id !== field.id || other.name !== field.name || !typesEqual(other.type, field.type)
  })
  if (!differs && wanted.fields.length === found.fields.length) return
  const name = differs?.name ?? found.fields[wanted.fields.length].name
  throw new MoonlinkError(
    'invalid',
    'SCHEMA_MISMATCH',
    `Iceberg table ${identifier.namespace}.${identifier.name} has another schema than its source from column "${name}" on; drop it or mirror into another.`,
    { context: { column: name } },
  )
}
