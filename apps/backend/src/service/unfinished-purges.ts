import {
  isMoonlinkError,
  MoonlinkError,
  parseTableName,
  type Clock,
  type Lease,
  type LoadedTable,
  type Logger,
  type Random,
  type TableIdentifier,
} from '@moonlink/core'
import type { Engine } from '@moonlink/table-engine'
import { toMoonlinkError } from '../http/errors.ts'
import type { Acknowledger } from './acknowledger.ts'
import { backOffMs } from './back-off.ts'
import type { SourceHandle, Warehouse } from './parts.ts'
import type { RememberedTables } from './remembered-tables.ts'
import { Repeating } from './repeating.ts'
import type { Purge } from './state.ts'
import { stoppingError } from './stopping.ts'
import { checkOwner } from './table-owner.ts'

export interface UnfinishedPurgesOptions {
  readonly warehouse: Pick<Warehouse, 'catalog' | 'removeFile' | 'removeFiles' | 'uri'>
  readonly engine: Pick<Engine, 'removeListedFiles'>
  readonly source: Pick<SourceHandle, 'identity'>
  readonly lease: Pick<Lease, 'check' | 'requireCurrent'> | null
  readonly remembered: RememberedTables
  readonly acknowledger: Pick<Acknowledger, 'remember'>
  readonly clock: Clock
  readonly random: Random
  readonly logger: Logger
}

const lookMs = 100
/** How long an added table waits for its name to be free. */
const patienceMs = 15_000

interface Attempts {
  failures: number
  dueAtMs: number
  reason: string | null
  running: Promise<void> | null
}

/**
 * Iceberg tables that are being removed with their files. What is to be removed is written down before anything is, and its end before the table may be added again: whatever cuts a purge off, the
 * next attempt goes on with it, be it another process's.
 */
export class UnfinishedPurges {
  readonly #options: UnfinishedPurgesOptions
  readonly #attempts = new Map<string, Attempts>()
  readonly #givenUp = new Set<string>()
  readonly #repeating: Repeating
  #isStopped = false

  constructor(options: UnfinishedPurgesOptions) {
    this.#options = options
    this.#repeating = new Repeating(options.clock, lookMs, () => this.#look())
  }

  /** Also while its end is being written down. */
  has(name: string): boolean {
    return this.#options.remembered.purges.has(name) || (this.#attempts.get(name)?.running ?? null) !== null
  }

  /** By name, what a purge waits for. */
  get reasons(): ReadonlyMap<string, string> {
    const names = [...this.#options.remembered.purges.keys()]
    return new Map(names.map((name) => [name, this.#reasonOf(name)]))
  }

  #reasonOf(name: string): string {
    const reason = this.#attempts.get(name)?.reason ?? null
    return `files of its Iceberg table are being removed${reason === null ? '' : `: ${reason} It is tried again by itself.`}`
  }

  /** What is to be removed, as the catalog has it now. Throws where that can't be told, or where it mirrors another source. */
  async identify(name: string): Promise<Purge> {
    const { source, warehouse } = this.#options
    const table = parseTableName(name)
    const found = await this.#load(name)
    if (found === null || found === 'damaged') return { uuid: null, metadataLocation: null }
    const { properties, 'table-uuid': uuid } = found.metadata
    checkOwner(source.identity, warehouse.uri, table, { properties: (properties ?? {}) as Readonly<Record<string, string>> })
    return { uuid: uuid as string, metadataLocation: null }
  }

  /** To be written down before anything is removed. */
  begin(name: string, purge: Purge): void {
    this.#options.remembered.purge(name, purge)
  }

  /** Removes what is left, now. Throws what keeps it from that; it is tried again by itself then. */
  async finish(name: string): Promise<void> {
    while (this.has(name)) await this.#attempt(name)
  }

  /** A table of that name is to be made. Throws `retry`/`PURGE_UNFINISHED` where files of the one before are left for longer than a moment. */
  async finishBefore(name: string): Promise<void> {
    if (!this.has(name)) return
    const over = new AbortController()
    const patience = this.#options.clock.sleep(patienceMs, over.signal).catch(() => undefined)
    await Promise.race([this.finish(name).catch(() => undefined), patience])
    over.abort(new Error('waited'))
    this.requireFinished(name)
  }

  /** Throws `retry`/`PURGE_UNFINISHED`. */
  requireFinished(name: string): void {
    if (!this.has(name)) return
    const message = `${name} can't be mirrored yet: ${this.#reasonOf(name)} moonlink tables drop ${name} leaves what is left of them.`
    throw new MoonlinkError('retry', 'PURGE_UNFINISHED', message, { context: { table: name } })
  }

  /** Leaves what is left. It is to be written down. */
  async giveUp(name: string): Promise<void> {
    if (!this.has(name)) return
    this.#givenUp.add(name)
    await this.#attempts.get(name)?.running?.catch(() => undefined)
    this.#givenUp.delete(name)
    this.#end(name)
  }

  start(): void {
    this.#repeating.start()
  }

  /** Resolves once nothing is being removed. */
  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#repeating.stop()
    await Promise.allSettled([...this.#attempts.values()].flatMap(({ running }) => running ?? []))
  }

  async #look(): Promise<void> {
    const { clock, remembered } = this.#options
    for (const name of remembered.purges.keys()) {
      if (this.#isStopped) return
      if (clock.nowMs() >= (this.#attempts.get(name)?.dueAtMs ?? 0)) await this.#attempt(name).catch(() => undefined)
    }
  }

  /** One at a time: whoever asks meanwhile waits for the one that runs. */
  #attempt(name: string): Promise<void> {
    const attempts = this.#attempts.get(name) ?? { failures: 0, dueAtMs: 0, reason: null, running: null }
    this.#attempts.set(name, attempts)
    attempts.running ??= this.#purge(name)
      .catch((error: unknown) => this.#failed(name, attempts, error))
      .finally(() => (attempts.running = null))
    return attempts.running
  }

  #failed(name: string, attempts: Attempts, thrown: unknown): never {
    const { clock, logger, random } = this.#options
    const { code, context, kind, message } = toMoonlinkError(thrown)
    attempts.dueAtMs = clock.nowMs() + backOffMs(attempts.failures++, random)
    const reason = `${code} ${message}`
    if (this.#isStopped || this.#givenUp.has(name) || kind === 'fenced') throw thrown
    if (attempts.reason !== reason)
      logger.warn('files of a purged table could not be removed; it is tried again', { table: name, error: reason })
    attempts.reason = reason
    const told = `${name} is not mirrored any more, but not all of its files are removed: ${message} It is tried again by itself.`
    throw new MoonlinkError('retry', 'PURGE_UNFINISHED', told, { context: { ...context, table: name }, cause: thrown })
  }

  async #purge(name: string): Promise<void> {
    const { acknowledger, engine, lease, logger, remembered, warehouse } = this.#options
    const beforeEach = async () => {
      if (this.#isStopped) throw stoppingError()
      if (this.#givenUp.has(name)) throw new MoonlinkError('conflict', 'PURGE_GIVEN_UP', `the purge of ${name} was given up.`)
      await lease?.requireCurrent()
    }
    await beforeEach()
    // A successor goes on with what it finds written down, and mirrors nothing under the name before.
    if (remembered.isRecorded(name)) await lease?.check()
    else await acknowledger.remember()
    const found = await this.#load(name)
    if (found !== null && found !== 'damaged' && found.metadata['table-uuid'] !== remembered.purges.get(name)!.uuid) {
      logger.warn('a table that was to be purged is another one by now, which is left as it is, with whatever files lie beside its own', {
        table: name,
      })
    } else {
      if (found !== null && found !== 'damaged') await this.#note(name, found.metadataLocation)
      await beforeEach()
      await warehouse.catalog.drop(identifierOf(name), true, beforeEach)
      // The catalog may not remove files, or not all of them.
      const { metadataLocation, uuid } = remembered.purges.get(name)!
      if (metadataLocation !== null && uuid !== null) await warehouse.removeFiles({ metadataLocation, uuid }, beforeEach)
      await engine.removeListedFiles(name, async (path) => {
        await beforeEach()
        await warehouse.removeFile(path)
      })
    }
    await this.#recordEnd(name)
  }

  /** Once the catalog has it no more, that names its files. */
  async #note(name: string, metadataLocation: string): Promise<void> {
    const { acknowledger, remembered } = this.#options
    const purge = remembered.purges.get(name)!
    if (purge.metadataLocation === metadataLocation) return
    remembered.purge(name, { ...purge, metadataLocation })
    await acknowledger.remember()
  }

  async #recordEnd(name: string): Promise<void> {
    const { acknowledger, remembered } = this.#options
    const purge = remembered.purges.get(name)!
    remembered.purged(name)
    try {
      await acknowledger.remember()
    } catch (error) {
      remembered.purge(name, purge)
      throw error
    }
    this.#end(name)
  }

  #end(name: string): void {
    this.#options.remembered.purged(name)
    this.#attempts.delete(name)
  }

  /** `damaged` where the catalog has one that can't be read. */
  async #load(name: string): Promise<LoadedTable | 'damaged' | null> {
    try {
      return await this.#options.warehouse.catalog.load(identifierOf(name))
    } catch (error) {
      if (isMoonlinkError(error, 'corrupt')) return 'damaged'
      throw error
    }
  }
}

function identifierOf(table: string): TableIdentifier {
  const { name, schema } = parseTableName(table)
  return { namespace: schema, name }
}
