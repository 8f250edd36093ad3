import { formatTableName, MoonlinkError, type TableName } from '@moonlink/core'
import pg from 'pg'
import type { DescribedTable } from './catalog.ts'
import { quoted } from './describe-shape.ts'
import { explained, type CatalogConnection } from './connect.ts'
import { isLockTimeout, messageOf, sqlState } from './errors.ts'
import {
  missingOperations,
  OUR_COMMENT,
  publishesInsertsOnly,
  publishStatement,
  type ListedTable,
  type PublicationState,
  type Publications,
} from './publication-state.ts'

/** What a publication is for. */
export interface PublicationPlan {
  readonly name: string
  /** Whole changes, or inserts and truncates only. */
  readonly publish: 'all' | 'inserts'
  readonly tables: readonly DescribedTable[]
}

/** Of the server that a publication is made on. */
export interface PublicationServer {
  readonly database: string
  readonly versionNumber: number
}

/** What a table that need not be published any more is waited for. */
const DROP_LOCK_TIMEOUT_MS = 200
/** What each of several tables is waited for, once one of them is known to be locked. */
const EACH_LOCK_TIMEOUT_MS = 50

const published = { all: 'insert, update, delete, truncate', inserts: 'insert, truncate' } as const

/** What other sessions' locks kept a publication from. */
export interface KeptFrom {
  /** It does not publish them yet. */
  readonly adding: readonly DescribedTable[]
  /** It still publishes them. */
  readonly dropping: readonly ListedTable[]
}

/**
 * Makes a publication of ours publish the plan's tables: creates it, or adds and drops tables; never drops and recreates it. One that somebody else made is
 * not changed: the tables were described by what it publishes. Returns the tables that another session locks: each to add is waited for no longer than `lockTimeoutMs`.
 */
export async function ensurePublication(
  connection: Pick<CatalogConnection, 'rows'>,
  plan: PublicationPlan,
  state: PublicationState | null,
  server: PublicationServer,
  lockTimeoutMs: number,
): Promise<KeptFrom> {
  if (state === null) {
    const isNeeded = plan.tables.length > 0 || plan.publish === 'all'
    return { adding: isNeeded ? await createPublication(connection, plan, server, lockTimeoutMs) : [], dropping: [] }
  }
  checkPublication(plan, state)
  if (!state.isOurs) return { adding: [], dropping: [] }
  const wanted = new Set(plan.tables.map((described) => formatTableName(described.table)))
  const missing = plan.tables.filter((described) => !state.tables.has(formatTableName(described.table)))
  const surplus = state.listed.filter((table) => !wanted.has(formatTableName(table)))
  if (missing.length > 0 && !state.isOwned) throw notOwner(plan.name, addSql(plan.name, missing))
  const adding = await addTables(connection, plan.name, missing, lockTimeoutMs)
  // What is published and not mirrored is passed over, so it does no harm meanwhile.
  return { adding, dropping: state.isOwned ? await dropTables(connection, plan.name, surplus) : [] }
}

/** Adds tables to a publication, all at once; where that takes a lock that another session holds, one by one. Returns those that are locked. */
export async function addTables(
  connection: Pick<CatalogConnection, 'rows'>,
  publication: string,
  tables: readonly DescribedTable[],
  lockTimeoutMs: number,
): Promise<readonly DescribedTable[]> {
  return lockedAmong(tables, lockTimeoutMs, (some, timeoutMs) => {
    const sql = addSql(publication, some)
    return explained(
      'adding tables to the publication',
      () => connection.rows(waiting(sql, timeoutMs)).then(() => true, unlessLocked),
      (error) => explainAlter(error, publication, some, sql),
    )
  })
}

/** Drops tables from a publication, in the same way. */
export async function dropTables(
  connection: Pick<CatalogConnection, 'rows'>,
  publication: string,
  tables: readonly ListedTable[],
): Promise<readonly ListedTable[]> {
  return lockedAmong(tables, DROP_LOCK_TIMEOUT_MS, (some, timeoutMs) => {
    const sql = `ALTER PUBLICATION ${pg.escapeIdentifier(publication)} DROP TABLE ${some.map((table) => `ONLY ${quoted(table)}`).join(', ')}`
    return explained(
      'dropping tables from the publication',
      () => connection.rows(waiting(sql, timeoutMs)).then(() => true, unlessLocked),
      (error) => explainAlter(error, publication, [], sql),
    )
  })
}

/** Alters a publication for all tables at once, then one by one where that is false for a lock. Returns those for which it is. */
async function lockedAmong<T>(
  tables: readonly T[],
  lockTimeoutMs: number,
  alter: (tables: readonly T[], lockTimeoutMs: number) => Promise<boolean>,
): Promise<readonly T[]> {
  if (tables.length === 0 || (await alter(tables, lockTimeoutMs))) return []
  if (tables.length === 1) return tables
  const locked: T[] = []
  for (const table of tables) if (!(await alter([table], Math.min(lockTimeoutMs, EACH_LOCK_TIMEOUT_MS)))) locked.push(table)
  return locked
}

function addSql(publication: string, tables: readonly DescribedTable[]): string {
  return `ALTER PUBLICATION ${pg.escapeIdentifier(publication)} ADD TABLE ${tableList(tables)}`
}

/** One message is one transaction, which the setting is for. */
function waiting(sql: string, lockTimeoutMs: number): string {
  return `SET LOCAL lock_timeout = ${lockTimeoutMs}; ${sql}`
}

/** A deadlock is a lock, too, that was not had. */
function unlessLocked(error: unknown): false {
  if (!isLockTimeout(error) && sqlState(error) !== '40P01') throw error
  return false
}

/** Tables to publish that another session keeps locked. */
export function lockedTables(tables: readonly TableName[], publication: string, cause?: unknown): MoonlinkError {
  const names = tables.map(formatTableName)
  const message = `${names.join(', ')}: another session holds a lock (ALTER TABLE, TRUNCATE, VACUUM?), so the publication "${publication}" can't take it yet; try again once that has ended.`
  return new MoonlinkError('retry', 'PG_LOCK_TIMEOUT', message, { context: { tables: names }, cause })
}

/**
 * Whether the server goes on sending a partition's changes as it did first, or not at all, whatever it is a part of by now: before 15 what it remembers of a relation is
 * not looked up again when that is attached or detached (`rel_sync_cache_relation_cb`, src/backend/replication/pgoutput/pgoutput.c), only when a table is published.
 */
export function remembersPartitions({ versionNumber }: Pick<PublicationServer, 'versionNumber'>): boolean {
  return versionNumber < 150_000
}

/**
 * Makes a server that `remembersPartitions` look again, from here on in the log: the table is taken out of a publication of ours and put back, in one transaction. One that was given
 * is left alone: it looks again at all of them where any other is made, too (`publication_invalidation_cb`), which is gone again at once. False where neither may be done.
 */
export async function publishAnew(
  connection: CatalogConnection,
  { append, main }: Publications,
  table: TableName,
  lockTimeoutMs: number,
): Promise<boolean> {
  const state = [main, append].find((one) => one?.isOurs === true && one.isOwned && one.tables.has(formatTableName(table)))
  if (state == null) return makePassing(connection)
  const alter = `ALTER PUBLICATION ${pg.escapeIdentifier(state.name)}`
  const sql = `${alter} DROP TABLE ONLY ${quoted(table)}; ${alter} ADD TABLE ONLY ${quoted(table)}`
  await explained(
    'publishing a partitioned table anew',
    () => connection.rows(waiting(sql, lockTimeoutMs)),
    (error) => (isLockTimeout(error) ? lockedTables([table], state.name, error) : null),
  )
  return true
}

/** Makes a publication of no table and drops it, in one transaction. False where we may make none. */
async function makePassing(connection: CatalogConnection): Promise<boolean> {
  if (!(await mayMakePublications(connection))) return false
  const sql = 'CREATE PUBLICATION moonlink_passing; DROP PUBLICATION moonlink_passing'
  await explained(
    'having the server look at its publications again',
    () => connection.rows(sql),
    () => null,
  )
  return true
}

export async function mayMakePublications(connection: Pick<CatalogConnection, 'rows'>): Promise<boolean> {
  const [{ may }] = await connection.rows<{ may: boolean }>(`SELECT has_database_privilege(current_database(), 'CREATE') AS may`)
  return may
}

/** What somebody else has to do where `publishAnew` may not, in one transaction. */
export function publishAnewSql(publication: string, table: TableName): string {
  const alter = `ALTER PUBLICATION ${pg.escapeIdentifier(publication)}`
  return `BEGIN; ${alter} DROP TABLE ONLY ${quoted(table)}; ${alter} ADD TABLE ONLY ${quoted(table)}; COMMIT`
}

export async function dropPublication(connection: CatalogConnection, name: string): Promise<void> {
  const sql = `DROP PUBLICATION IF EXISTS ${pg.escapeIdentifier(name)}`
  await explained(
    'dropping the publication',
    () => connection.rows(sql),
    (error) => (sqlState(error) === '42501' ? notOwner(name, sql) : null),
  )
}

/** Throws `invalid`/`PG_PUBLICATION_OPERATIONS` where a publication leaves out what a mirror needs. */
export function checkPublication(plan: Pick<PublicationPlan, 'name' | 'publish'>, state: PublicationState): void {
  const alter = `ALTER PUBLICATION ${pg.escapeIdentifier(plan.name)}`
  const refuse = (message: string) =>
    new MoonlinkError('invalid', 'PG_PUBLICATION_OPERATIONS', message, { context: { publication: plan.name } })
  // One that was given may be for append-only tables alone.
  const wanted = plan.publish === 'all' && !state.isOurs && publishesInsertsOnly(state) ? 'inserts so far' : plan.publish
  const lacking = missingOperations(state, wanted !== 'all')
  if (lacking.length > 0) {
    throw refuse(
      `publication "${plan.name}" does not publish ${lacking.join(' and ')}, so the mirror would not be the table. Run ${publishStatement(plan.name, wanted)}; or choose another publication.`,
    )
  }
  if (plan.publish === 'inserts' && (state.update || state.delete)) {
    throw refuse(
      `publication "${plan.name}" is for append-only tables, yet publishes updates or deletes. Run ${alter} SET (publish = '${published.inserts}').`,
    )
  }
}

async function createPublication(
  connection: Pick<CatalogConnection, 'rows'>,
  plan: PublicationPlan,
  server: PublicationServer,
  lockTimeoutMs: number,
): Promise<readonly DescribedTable[]> {
  const create = (tables: readonly DescribedTable[]) => {
    const sql = createSql(plan, tables, server)
    // One message is one transaction: so it is never there without saying whose it is.
    const message = waiting(
      `${sql}; COMMENT ON PUBLICATION ${pg.escapeIdentifier(plan.name)} IS ${pg.escapeLiteral(OUR_COMMENT)}`,
      lockTimeoutMs,
    )
    return explained(
      'creating the publication',
      () => connection.rows(message).then(() => true, unlessLocked),
      (error) => explainCreate(error, plan.name, server.database, sql) ?? explainAlter(error, plan.name, tables, sql),
    )
  }
  if (await create(plan.tables)) return []
  await create([])
  return addTables(connection, plan.name, plan.tables, Math.min(lockTimeoutMs, EACH_LOCK_TIMEOUT_MS))
}

function createSql(plan: PublicationPlan, tables: readonly DescribedTable[], { versionNumber }: PublicationServer): string {
  const list = tables.length > 0 ? ` FOR TABLE ${tableList(tables)}` : ''
  const options = [`publish = '${published[plan.publish]}'`, 'publish_via_partition_root = true']
  if (versionNumber >= 180_000) options.push('publish_generated_columns = stored')
  return `CREATE PUBLICATION ${pg.escapeIdentifier(plan.name)}${list} WITH (${options.join(', ')})`
}

function explainCreate(error: unknown, publication: string, database: string, sql: string): MoonlinkError | null {
  if (sqlState(error) !== '42501' || !/database/.test(messageOf(error))) return null
  return new MoonlinkError(
    'invalid',
    'PG_CREATE_PRIVILEGE',
    `${messageOf(error)}: the publication "${publication}" can't be made. Let the database's owner run GRANT CREATE ON DATABASE ${pg.escapeIdentifier(database)} TO the user, or make it: ${sql}.`,
    { cause: error },
  )
}

function explainAlter(error: unknown, publication: string, tables: readonly DescribedTable[], sql: string): MoonlinkError | null {
  if (sqlState(error) !== '42501') return null
  const [foreign] = tables.filter((described) => !described.isOwned)
  if (!foreign) return notOwner(publication, sql, error)
  return new MoonlinkError(
    'invalid',
    'PG_TABLE_OWNER',
    `only its owner may publish ${formatTableName(foreign.table)}. Let a superuser run ${sql}, or make the user a member of the owner's role.`,
    { context: { table: formatTableName(foreign.table) }, cause: error },
  )
}

function notOwner(name: string, sql: string, cause?: unknown): MoonlinkError {
  return new MoonlinkError('invalid', 'PG_PUBLICATION_OWNER', `publication "${name}" belongs to another user. Let its owner run: ${sql}.`, {
    context: { publication: name },
    cause,
  })
}

/** ONLY: tables that inherit from ours are not ours. For a partitioned table it means the same as without. */
function tableList(tables: readonly { readonly table: TableName }[]): string {
  return tables.map(({ table }) => `ONLY ${quoted(table)}`).join(', ')
}
