/** JSON of an Iceberg table's metadata, with 64-bit integers as `bigint` where they exceed what a number holds exactly. */
export type JsonValue = null | boolean | number | bigint | string | readonly JsonValue[] | { readonly [key: string]: JsonValue }
export type JsonObject = { readonly [key: string]: JsonValue }

/** An Iceberg identifier: one namespace level and a name. */
export interface TableIdentifier {
  readonly namespace: string
  readonly name: string
}

/** A table as its catalog has it. */
export interface LoadedTable {
  /** Absolute URI of the current metadata.json. */
  readonly metadataLocation: string
  /** The table metadata (Iceberg spec, appendix C), parsed without loss. */
  readonly metadata: JsonObject
  /** Configuration the catalog hands out for this table, such as storage settings; secrets included, so never log it. */
  readonly config: Readonly<Record<string, string>>
}

/** What a new table is made of. */
export interface CreateTable {
  /** Iceberg schema JSON with the field ids to use as they are. */
  readonly schema: JsonObject
  /** Where the table shall live; the catalog's choice if absent. */
  readonly location?: string
  readonly properties: Readonly<Record<string, string>>
}

/**
 * An Iceberg catalog: requirements and updates as in the REST specification.
 *
 * `commit` errors: `conflict`/`COMMIT_CONFLICT` where a requirement failed (reload and decide anew);
 * `retry`/`COMMIT_UNKNOWN` where the commit may or may not have happened (reload, look for your snapshot id).
 * Not promised: that `load` sees a commit whose outcome was unknown at once.
 */
export interface Catalog {
  /** The table, or null where there is none. */
  load(table: TableIdentifier): Promise<LoadedTable | null>
  /** Creates an empty unpartitioned format-version 3 table, its namespace too. Fails with `conflict`/`TABLE_EXISTS`. */
  create(table: TableIdentifier, options: CreateTable): Promise<LoadedTable>
  /**
   * Removes the table from the catalog; its files too where `purge`. Fine if it is not there: one that was cut off amid is finished by the same call, as far as the catalog knows what is left. Where the
   * catalog itself removes one thing after another, `beforeEach` is called before each, and what it throws ends that.
   */
  drop(table: TableIdentifier, purge: boolean, beforeEach?: () => Promise<void>): Promise<void>
  /** Its tables, in any order; none where there is no such namespace. */
  list(namespace: string): Promise<readonly TableIdentifier[]>
  /**
   * Checks the requirements and applies the updates, both at once. The table's new metadata has a `metadataLocation` of its own, and names the one before in its
   * `metadata-log`. (`applyUpdates` of `@moonlink/iceberg-writer` checks and applies; the log is the catalog's.)
   */
  commit(table: TableIdentifier, requirements: readonly JsonObject[], updates: readonly JsonObject[]): Promise<LoadedTable>
}
