import { formatTableName, type Logger } from '@moonlink/core'
import type { DescribedTable } from './catalog.ts'
import type { PgSourceSettings } from './config.ts'
import { disconnect, type CatalogConnection, type Connector } from './connect.ts'
import { appendPublication, type ServerFacts } from './preflight.ts'
import {
  addTables,
  dropPublication,
  dropTables,
  ensurePublication,
  publishAnew,
  publishAnewSql,
  type PublicationPlan,
} from './publication.ts'
import type { Publications, PublicationState } from './publication-state.ts'
import { whoLocks } from './source-waits.ts'

/** More than the usual `deadlock_timeout`, after which autovacuum gives way. */
const VACUUM_GIVES_WAY_MS = 3000

export interface MirrorPublicationsDependencies {
  readonly connector: Connector
  readonly connection: CatalogConnection
  readonly settings: PgSourceSettings
  readonly facts: ServerFacts
}

/** The publications of a mirror's tables: that for whole changes, and that for append-only ones. They are given as they were read last. */
export class MirrorPublications {
  private readonly dependencies: MirrorPublicationsDependencies
  /** Object ids of tables that had to stay published, since another session locked them. */
  private leftBehind: ReadonlySet<number> = new Set()

  constructor(dependencies: MirrorPublicationsDependencies) {
    this.dependencies = dependencies
  }

  /** Makes them publish exactly these tables. Returns those that are not published yet, since another session locked them for `lockTimeoutMs`. */
  async ensure(tables: readonly DescribedTable[], publications: Publications, lockTimeoutMs: number): Promise<readonly DescribedTable[]> {
    const { connection, facts } = this.dependencies
    const locked: DescribedTable[] = []
    const leftBehind = new Set<number>()
    for (const { plan, state } of this.plans(tables, publications)) {
      const { adding, dropping } = await ensurePublication(connection, plan, state, facts, lockTimeoutMs)
      locked.push(...adding)
      for (const { relationOid } of dropping) leftBehind.add(relationOid)
    }
    this.leftBehind = leftBehind
    return locked
  }

  /** Whether they publish something that `ensure` could not take out, since it was locked. */
  get publishTooMuch(): boolean {
    return this.leftBehind.size > 0
  }

  /** Takes that out, save what somebody still has a lock on. */
  async dropLeftBehind({ append, main }: Publications): Promise<void> {
    const { connection } = this.dependencies
    const stay = new Set<number>()
    for (const state of [main, append]) {
      for (const table of state?.listed ?? []) {
        if (!this.leftBehind.has(table.relationOid)) continue
        const isLocked = (await whoLocks(connection, table.relationOid)) !== null
        if (isLocked || (await dropTables(connection, state!.name, [table])).length > 0) stay.add(table.relationOid)
      }
    }
    this.leftBehind = stay
  }

  /** Publishes one table more where the publication is ours and there. Returns null, or who has the lock that keeps it from that, and what ends it. */
  async add(table: DescribedTable, publications: Publications): Promise<string | null> {
    const { connection, connector } = this.dependencies
    const { plan, state } = this.plans([table], publications).find(({ plan: { tables } }) => tables.length > 0)!
    if (state?.isOurs !== true || state.tables.has(formatTableName(table.table))) return null
    const holder = await whoLocks(connection, table.relationOid)
    if (holder !== null) return holder
    // On a connection of its own: autovacuum gives way only to who waits for it, and nothing else shall wait meanwhile.
    const client = await connector.connect('publication')
    try {
      const rows: CatalogConnection['rows'] = async (sql) => (await client.query(sql)).rows
      const locked = await addTables({ rows }, plan.name, [table], VACUUM_GIVES_WAY_MS)
      if (locked.length === 0) return null
    } finally {
      await disconnect(client)
    }
    return (await whoLocks(connection, table.relationOid)) ?? 'a lock that another session holds'
  }

  /** Has a server that `remembersPartitions` look at the partitioned ones of the tables again. Where nothing makes it, what somebody else may have to run is said. */
  async publishPartitionsAnew(tables: readonly DescribedTable[], publications: Publications, logger: Logger): Promise<void> {
    const { connection, settings } = this.dependencies
    for (const { partitions, table } of tables) {
      if (partitions === null || (await publishAnew(connection, publications, table, settings.copyLockTimeoutMs))) continue
      if (!partitions.some(({ isAttached }) => isAttached)) continue
      const remedy = publishAnewSql(settings.publication, table)
      logger.warn(
        'Postgres 14 may not send rows of a partition that was attached while its changes were streamed already, before this has been run',
        {
          table: formatTableName(table),
          remedy,
        },
      )
    }
  }

  /** Drops those that were made here. Returns their names, and those of the others. */
  async drop({ append, main }: Publications): Promise<{ readonly dropped: readonly string[]; readonly kept: readonly string[] }> {
    const all = [main, append].filter((publication) => publication !== null)
    const namesOf = (isOurs: boolean) => all.filter((publication) => publication.isOurs === isOurs).map(({ name }) => name)
    const dropped = namesOf(true)
    for (const name of dropped) await dropPublication(this.dependencies.connection, name)
    return { dropped, kept: namesOf(false) }
  }

  /** Which of them has which of the tables. */
  private plans(
    tables: readonly DescribedTable[],
    { append, main }: Publications,
  ): readonly { readonly plan: PublicationPlan; readonly state: PublicationState | null }[] {
    const { settings } = this.dependencies
    const isInAppend = ({ table, appendOnly }: DescribedTable) =>
      appendOnly && (main === null || main.isOurs || !main.tables.has(formatTableName(table)))
    const whole = tables.filter((table) => !isInAppend(table))
    return [
      { plan: { name: settings.publication, publish: 'all', tables: whole }, state: main },
      { plan: { name: appendPublication(settings), publish: 'inserts', tables: tables.filter(isInAppend) }, state: append },
    ]
  }
}
