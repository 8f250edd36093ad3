import { join } from 'node:path'
import type { Clock, LocalFileSets, Logger, ObjectStore, Random } from '@moonlink/core'
import { LocalFileCache, LocalObjectStore, ObjectStores, S3ObjectStore } from '@moonlink/object-store'
import type { Config } from '../config/schema.ts'
import type { WrapPort } from './wrap-port.ts'

export interface OpenedStores {
  readonly store: ObjectStore
  readonly localFiles: LocalFileSets
  close(): Promise<void>
}

export interface StorePorts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly wrap: WrapPort
}

/** The object stores of the configuration, and their objects as local files. */
export async function openStores(config: Config, ports: StorePorts): Promise<OpenedStores> {
  const { store, close } = openObjectStores(config, ports)
  const directory = join(config.stateDir, 'cache')
  const localFiles = await LocalFileCache.open({ ...ports, store, directory, maxBytes: config.cache.limitBytes })
  return { store, localFiles, close }
}

/** The object stores of the configuration. */
export function openObjectStores(config: Config, ports: StorePorts): Pick<OpenedStores, 'store' | 'close'> {
  const { region, endpoint, forcePathStyle, accessKeyId, secretAccessKey, sessionToken, timeoutMs } = config.s3
  const session = sessionToken === undefined ? {} : { sessionToken }
  const s3 = new S3ObjectStore({
    ...ports,
    timeoutMs,
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(forcePathStyle === undefined ? {} : { forcePathStyle }),
    ...(accessKeyId === undefined || secretAccessKey === undefined ? {} : { credentials: { accessKeyId, secretAccessKey, ...session } }),
  })
  const { warehouse } = config
  const local = warehouse?.startsWith('file:') ? { root: warehouse } : {}
  const store: ObjectStore = ports.wrap('store', new ObjectStores({ file: new LocalObjectStore(local), s3, s3a: s3, s3n: s3 }))
  return { store, close: () => s3.close() }
}
