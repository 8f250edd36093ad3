import { MoonlinkError, parseTableName } from '@moonlink/core'
import type { Warehouse } from './parts.ts'
import type { BackendState } from './state.ts'

/**
 * Throws `invalid`/`CATALOG_LOST` where the last run had tables in a catalog that has none of them now: taken for new, all of them would be copied to where a disk is to be mounted, or to a catalog that
 * is to be restored.
 */
export async function refuseLostCatalog(state: BackendState, { catalog, uri }: Pick<Warehouse, 'catalog' | 'uri'>): Promise<void> {
  // Others that are known may have been locked or refused ever since, and be in no catalog.
  const names = [...new Set([...state.mirrored, ...Object.keys(state.published)])]
  for (const name of names) if (await isThere(name, catalog)) return
  if (names.length === 0) return
  const tables = names.length === 1 ? names[0] : `${names[0]} and ${names.length - 1} more`
  throw new MoonlinkError(
    'invalid',
    'CATALOG_LOST',
    `${uri} has none of the tables that were mirrored there (${tables}), as where its disk is not mounted, or its catalog was lost or is another: bring it back and start again. To copy all of them anew, start once with --set catalog.onLost=copy.`,
    { context: { warehouse: uri } },
  )
}

async function isThere(name: string, catalog: Warehouse['catalog']): Promise<boolean> {
  const { schema, name: table } = parseTableName(name)
  try {
    return (await catalog.load({ namespace: schema, name: table })) !== null
  } catch {
    // What is refused or damaged is there, and what is away may be: opening it tells.
    return true
  }
}
