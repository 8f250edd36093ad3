import type { Clock, LoadedTable, Lsn, ObjectStore, Random } from '@moonlink/core'
import { PositionSet } from '@moonlink/deletion-log'
import { FileCatalog, openTableStorage } from '@moonlink/iceberg-writer'
import { WAREHOUSE } from './sim-node.ts'
import { decodeSimFile, simParquet } from './sim-parquet.ts'
import { tableNameOf, textsOf } from './sim-rows.ts'

export interface AtRest {
  readonly lsn: Lsn | null
  readonly rows: readonly string[]
}

/** What Iceberg alone holds, read by somebody who knows nothing of any node. */
export class SimWarehouse {
  private readonly store: ObjectStore
  private readonly ports: { readonly clock: Clock; readonly random: Random }

  constructor(store: ObjectStore, ports: { readonly clock: Clock; readonly random: Random }) {
    this.store = store
    this.ports = ports
  }

  load(name: string): Promise<LoadedTable | null> {
    const { schema, name: table } = tableNameOf(name)
    return new FileCatalog({ ...this.ports, store: this.store, warehouse: WAREHOUSE }).load({ namespace: schema, name: table })
  }

  /** Null where there is no table. */
  async read(name: string): Promise<AtRest | null> {
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
