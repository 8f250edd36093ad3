import type { Catalog, ObjectStore } from '@moonlink/core'
import { reachableFiles } from '@moonlink/iceberg-writer'

/** Files below the locations of these tables that none of their snapshots needs. Throws where one that is needed is missing. */
export async function unneededFiles(store: ObjectStore, catalog: Catalog, names: readonly string[]): Promise<string[]> {
  const left: string[] = []
  for (const table of names) {
    const [namespace, name] = table.split('.')
    const loaded = await catalog.load({ namespace, name })
    if (loaded === null) throw new Error(`${table} is not in the catalog`)
    const needed = await reachableFiles(store, loaded)
    const found = new Set<string>()
    for await (const { uri } of store.list(`${loaded.metadata['location'] as string}/`)) found.add(uri)
    for (const uri of needed) if (!found.has(uri)) throw new Error(`${table} needs ${uri}, which is not there`)
    left.push(...[...found].filter((uri) => !needed.has(uri)))
  }
  return left
}
