import { formatTableName, isMoonlinkError, type TableName, type TableShape } from '@moonlink/core'
import { FieldIds, type ServerTypes } from '../types/index.ts'
import { describeTables, toListing, type CatalogOptions, type DescribedTable, type TableListing } from './catalog.ts'
import type { PgSourceSettings } from './config.ts'
import type { CatalogConnection } from './connect.ts'
import { describeShape, type MappedShape } from './describe-shape.ts'
import { evolveShape, restoreShape } from './evolve-shape.ts'
import { appendPublication } from './preflight.ts'
import { readPublications, type Publications } from './publication-state.ts'
import { markOf } from './relation-shape.ts'
import { shownRowFilters } from './row-filter.ts'
import { decodeSourceState } from './source-state.ts'
import { nameOfTable } from './table-name.ts'
import { TOLD_SINCE } from './told-since.ts'

/** A table as the catalog has it now, by what is known of it. */
export interface EvolvedTable {
  readonly shape: TableShape
  /** It is another table under the same name. */
  readonly isAnew: boolean
  /** The same text for as long as nothing changes that its rows depend on. */
  readonly mark: string
}

/** Tables in the order in which they were asked for, and what they were described with: the publications as they were just before. */
export interface CatalogReading {
  readonly described: readonly DescribedTable[]
  readonly options: CatalogOptions
}

export interface SourceCatalogDependencies {
  readonly connection: CatalogConnection
  readonly settings: PgSourceSettings
  readonly serverTypes: ServerTypes
  /** `server_version_num`. */
  readonly versionNumber: number
}

/** The source's catalog, read as the settings say that it is mirrored. What is public here is documented where `PgSource` offers it. */
export class SourceCatalog {
  private readonly dependencies: SourceCatalogDependencies
  private readonly unfitCounters = new Map<string, { count: number }>()
  private lastOptions: CatalogOptions | null = null

  constructor(dependencies: SourceCatalogDependencies) {
    this.dependencies = dependencies
  }

  async list(only?: readonly TableName[]): Promise<TableListing[]> {
    const { connection } = this.dependencies
    const described = await describeTables(connection, await this.options(), only)
    if (only !== undefined) return described.map((entry) => toListing(entry))
    const filterOids = described.flatMap((entry) => ('described' in entry ? (entry.described.filterOid ?? []) : []))
    const filters = await shownRowFilters(connection, filterOids)
    return described.map((entry) => toListing(entry, filters))
  }

  /** Throws the reason of the first table that can't be mirrored. */
  async describe(tables: readonly TableName[]): Promise<CatalogReading> {
    const options = await this.options()
    if (tables.length === 0) return { described: [], options }
    const entries = await describeTables(this.dependencies.connection, options, tables)
    const found = new Map(entries.map((entry) => [formatTableName(entry.table), entry]))
    const described = tables.map((table) => {
      const entry = found.get(formatTableName(table))!
      if ('refusal' in entry) throw entry.refusal
      return entry.described
    })
    return { described, options }
  }

  async restore(table: TableName, sourceState: string): Promise<TableShape | null> {
    const state = decodeSourceState(sourceState)
    if (state === null) return null
    try {
      const { schema } = describeShape(table, state.relation, await this.options(), new FieldIds(state.ids))
      return { schema, sourceState }
    } catch (error) {
      if (isMoonlinkError(error, 'invalid')) return null
      throw error
    }
  }

  /** A shape with the columns that it was mirrored with, by what the catalog said last; null where nothing was asked of that yet, or it leads nowhere. */
  restored(table: TableName, shape: TableShape): MappedShape | null {
    return this.lastOptions && restoreShape(table, shape, this.lastOptions)
  }

  async evolved(table: TableName, known: TableShape): Promise<EvolvedTable> {
    const { described, options } = await this.describe([table])
    const [{ relation }] = described
    const { schema, sourceState } = evolveShape(table, known, relation, options).mapped
    const before = decodeSourceState(known.sourceState)
    const isAnew = before !== null && before.relation.oid !== relation.oid
    return { shape: { schema, sourceState }, isAnew, mark: markOf(relation) }
  }

  async nameNow({ sourceState }: TableShape): Promise<TableName | null> {
    const state = decodeSourceState(sourceState)
    return state === null ? null : nameOfTable(this.dependencies.connection, state.relation.oid)
  }

  /** Whether event triggers tell of schema changes. */
  async isTold(): Promise<boolean> {
    const [{ isTold }] = await this.dependencies.connection.rows<{ isTold: boolean }>(`SELECT ${TOLD_SINCE} IS NOT NULL AS "isTold"`)
    return isTold
  }

  async publications(): Promise<Publications> {
    const { connection, settings, versionNumber } = this.dependencies
    return readPublications(connection, versionNumber, settings.publication, appendPublication(settings))
  }

  async options(): Promise<CatalogOptions> {
    const { serverTypes, settings, versionNumber } = this.dependencies
    const { excludeColumns, appendOnly, types, columns, onUnfit } = settings
    return (this.lastOptions = {
      excludeColumns,
      appendOnly,
      publications: await this.publications(),
      versionNumber,
      mapping: { policy: { types, columns, onUnfit }, server: serverTypes, counters: this.unfitCounters },
    })
  }
}
