import type { Catalog, Clock, Logger, ObjectStore, Random } from '@moonlink/core'
import { FileCatalog } from '@moonlink/iceberg-writer'
import type { Config } from '../config/schema.ts'

/** The catalog of the configuration. */
export function openCatalog(
  config: Config,
  store: ObjectStore,
  ports: { readonly clock: Clock; readonly random: Random; readonly logger: Logger },
): Catalog {
  return new FileCatalog({ ...ports, store, warehouse: config.warehouse })
}
