import type { Catalog, Clock, Logger, ObjectStore, Random } from '@moonlink/core'
import { RestCatalog } from '@moonlink/catalog-rest'
import { FileCatalog } from '@moonlink/iceberg-writer'
import type { Config } from '../config/schema.ts'

/** The catalog of the configuration. */
export function openCatalog(
  config: Config,
  store: ObjectStore,
  ports: { readonly clock: Clock; readonly random: Random; readonly logger: Logger },
): Catalog {
  const { kind, uri = '', warehouse, token, headers, timeoutMs } = config.catalog
  if (kind === 'file') return new FileCatalog({ ...ports, store, warehouse: config.warehouse ?? '' })
  const named = { ...(warehouse === undefined ? {} : { warehouse }), ...(token === undefined ? {} : { token }) }
  return new RestCatalog({ ...ports, uri, headers, timeoutMs, ...named })
}
