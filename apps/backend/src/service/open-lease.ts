import { readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { ObjectLease } from '@moonlink/change-log'
import { randomUuid, type Clock, type LeasePlace, type Logger, type ObjectStore, type Random } from '@moonlink/core'
import type { Config } from '../config/schema.ts'

export interface LeaseParts {
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
  readonly store: ObjectStore
}

/** Where the lease of a change log in the store is kept. The state directory must be ours: who else held the lease from it is dead. */
export function leasePlace(config: Config, { clock, random, logger, store }: LeaseParts): LeasePlace {
  const { renewIntervalMs, takeoverMs } = config.standby
  const host = hostname()
  return new ObjectLease({
    store,
    prefix: `${config.changeLog.location}/lease/`,
    holder: {
      id: randomUuid(random),
      home: `${host} ${config.stateDir} ${identityOf(config.stateDir, random)}`,
      name: `the backend on ${host} (process ${process.pid})`,
    },
    clock,
    logger,
    renewIntervalMs,
    takeoverMs,
  })
}

/** A name of the directory's own: machines may have the same name, and keep their states under the same path. */
function identityOf(stateDir: string, random: Random): string {
  const path = join(stateDir, 'id')
  try {
    const id = readFileSync(path, 'utf8').trim()
    // Empty where the machine died as it was written: one that others have too would be none.
    if (id !== '') return id
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  const id = randomUuid(random)
  writeFileSync(path, `${id}\n`, { flush: true })
  return id
}
