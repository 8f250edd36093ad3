import { MoonlinkError, type Clock, type LocalFiles, type Logger, type Random } from '@moonlink/core'
import type { Config } from '../config/schema.ts'
import type { Warehouse } from './parts.ts'

/** Opens stores, catalog and Parquet workers of the configured warehouse. */
export async function openWarehouse(
  config: Config,
  ports: { readonly clock: Clock; readonly random: Random; readonly logger: Logger },
): Promise<Warehouse & { readonly localFiles: LocalFiles }> {
  ports.logger.debug('opening the warehouse', { warehouse: config.warehouse })
  throw new MoonlinkError('bug', 'NOT_BUILT', 'the warehouse is not built yet')
}
