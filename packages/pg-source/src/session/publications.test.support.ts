import type { TableName } from '@moonlink/core'
import type { TestDatabase } from '@moonlink/testkit'
import { expect } from 'vitest'
import type { PgSourceConfig } from './config.ts'
import { follow, sourceState, tableOf } from './harness.test.support.ts'
import { Replica, sorted } from './replica.test.support.ts'
import { openPgSource, type PgSource } from './source.ts'

export const listingOf = async (source: PgSource, table: TableName) => (await source.listTables([table]))[0]

/** What tests of publications do with the tables of the database of the time. */
export function publishedTables(database: () => TestDatabase) {
  const config = (more: Partial<PgSourceConfig> = {}): PgSourceConfig => ({
    connection: database().connectionString,
    slot: `pubs_${database().name}`,
    ...more,
  })

  /** Copies the tables into a replica; ranges of one page, so that no part of a table is read twice or not at all. */
  async function copied(names: readonly string[], more: Partial<PgSourceConfig> = {}): Promise<{ replica: Replica; boundaryLsn: bigint }> {
    const source = await openPgSource(config({ copyRangeBytes: 8192, ...more }))
    try {
      await source.prepare(names.map(tableOf))
      const tables = (await source.listTables(names.map(tableOf))).map((listing) => {
        if (!listing.mirrorable) throw new Error(listing.reason)
        return { table: listing.table, schema: listing.schema }
      })
      const copy = await source.copy(tables, new AbortController().signal)
      const replica = new Replica()
      for (const name of names) await copy.read(tableOf(name), async (rows) => replica.addCopied(name, rows))
      await copy.close()
      return { replica, boundaryLsn: copy.boundaryLsn }
    } finally {
      await source.close()
    }
  }

  /** Copies, plays the statements, follows to their end; the replica must then be what the query says, as it must be after the copy. */
  async function mirrors(name: string, query: string, statements: readonly string[], more: Partial<PgSourceConfig> = {}): Promise<Replica> {
    const { client } = database()
    const { replica, boundaryLsn } = await copied([name], more)
    expect(sorted(replica.rowsOf(name))).toEqual(await sourceState(client, query))
    const following = await follow(config(more), [name], boundaryLsn, replica)
    for (const statement of statements) {
      await client.query(statement)
      await following.catchUp()
      expect(sorted(replica.rowsOf(name)), statement).toEqual(await sourceState(client, query))
    }
    expect([replica.missing, replica.otherEvents]).toEqual([[], []])
    await following.close()
    return replica
  }

  /** The listing of a table that is not mirrorable. */
  async function refusal(name: string, more: Partial<PgSourceConfig> = {}) {
    const source = await openPgSource(config(more))
    const listing = await listingOf(source, tableOf(name))
    await source.close()
    return listing
  }

  return { config, mirrors, refusal }
}
