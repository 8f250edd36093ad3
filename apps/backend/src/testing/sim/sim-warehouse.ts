import { isMoonlinkError, type Clock, type LoadedTable, type Lsn, type ObjectStore, type Random } from '@moonlink/core'
import { PositionSet } from '@moonlink/deletion-log'
import { FileCatalog, openTableStorage, reachableFiles } from '@moonlink/iceberg-writer'
import { sameAsOne } from './sim-compare.ts'
import { TABLES, type SimDatabase } from './sim-database.ts'
import { WAREHOUSE } from './sim-node.ts'
import { decodeSimFile, simParquet } from './sim-parquet.ts'
import { tableNameOf, textsOf } from './sim-rows.ts'
import type { SimTotals } from './sim-totals.ts'

const READ_ATTEMPTS = 5

export interface AtRest {
  readonly lsn: Lsn | null
  readonly rows: readonly string[]
}

/** What Iceberg alone holds, read by somebody who knows nothing of any node. */
export class SimWarehouse {
  private readonly store: ObjectStore
  private readonly ports: { readonly clock: Clock; readonly random: Random }
  /** Objects that may stay though nobody needs them. */
  private readonly excused = new Set<string>()
  /** Objects that a node has written, or tried to. */
  private readonly written = new Set<string>()

  constructor(store: ObjectStore, ports: { readonly clock: Clock; readonly random: Random }) {
    this.store = store
    this.ports = ports
  }

  noteWrite(uri: string): void {
    this.written.add(uri)
  }

  /** A list of files was lost with a disk, or a bit of it flipped: those that are there now, or on their way there, may stay. */
  async excuseWhatIsThere(): Promise<void> {
    for (const uri of this.written) this.excused.add(uri)
    for await (const { uri } of this.store.list(`${WAREHOUSE}/sim/`)) this.excused.add(uri)
  }

  /** Iceberg equals the database at the LSN that it says. */
  async check(database: SimDatabase, totals: SimTotals): Promise<void> {
    for (const name of TABLES) {
      const found = await this.read(name)
      if (found === null || found.lsn === null) continue
      totals.atRest++
      sameAsOne(found.rows, database.everAt(name, found.lsn), `${name} in Iceberg at ${found.lsn}`)
    }
  }

  /** Once nodes went on without faults, nothing is left in the store that no snapshot needs and no machine has listed. */
  async checkNothingLeft(listed: string, tables: readonly string[]): Promise<void> {
    for (const name of tables) {
      const left = (await this.unneeded(name)).filter((uri) => !this.excused.has(uri) && !listed.includes(uri))
      if (left.length > 0) throw new Error(`${name} leaves behind ${left.length} files: ${left.slice(0, 5).join(', ')}`)
    }
  }

  private load(name: string): Promise<LoadedTable | null> {
    const { schema, name: table } = tableNameOf(name)
    return new FileCatalog({ ...this.ports, store: this.store, warehouse: WAREHOUSE }).load({ namespace: schema, name: table })
  }

  /** Objects of a table that it does not need. Throws where one that it needs is missing. */
  private async unneeded(name: string): Promise<readonly string[]> {
    const loaded = await this.load(name)
    const needed = loaded === null ? new Set<string>() : await reachableFiles(this.store, loaded)
    const { schema, name: table } = tableNameOf(name)
    const found = new Set<string>()
    for await (const { uri } of this.store.list(`${WAREHOUSE}/${schema}/${table}/`)) found.add(uri)
    for (const uri of needed) if (!found.has(uri)) throw new Error(`${name} needs ${uri}, which is not there`)
    return [...found].filter((uri) => !needed.has(uri) && !uri.endsWith('version-hint.text'))
  }

  /** Null where there is no table. */
  async read(name: string): Promise<AtRest | null> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.readOnce(name)
      } catch (error) {
        // A node that runs may have expired what was about to be read.
        if (!isMoonlinkError(error) || error.code !== 'OBJECT_NOT_FOUND' || attempt === READ_ATTEMPTS) throw error
      }
    }
  }

  private async readOnce(name: string): Promise<AtRest | null> {
    if ((await this.load(name)) === null) return null
    const { store, ports } = this
    const catalog = new FileCatalog({ ...ports, store, warehouse: WAREHOUSE })
    const { snapshot } = await openTableStorage({ ...ports, table: tableNameOf(name), catalog, store, parquet: simParquet })
    const vectors = new Map(snapshot.vectors.map((vector) => [vector.dataFile, vector.bitmap]))
    const rows: string[] = []
    for (const { path, recordCount } of snapshot.files) {
      const vector = vectors.get(path)
      const dead = new Set(vector === undefined ? [] : PositionSet.fromPortable(vector).toArray())
      rows.push(...textsOf(decodeSimFile(await store.get(path)).rows, recordCount, dead, snapshot.schema))
    }
    return { lsn: snapshot.committedLsn, rows: rows.sort() }
  }
}
