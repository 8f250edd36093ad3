import { formatTableName, type Clock, type Logger } from '@moonlink/core'
import type { PublicationChange, SourceHandle } from './parts.ts'
import { Repeating } from './repeating.ts'
import { SaidOnce } from './said-once.ts'

export interface PublicationWatchOptions {
  readonly source: Pick<SourceHandle, 'publicationChanges'>
  readonly clock: Clock
  readonly logger: Logger
  readonly intervalMs: number
  /** Makes a table equal to its source again. */
  readonly resync: (table: string, reason: string) => Promise<void>
  readonly pause: (table: string, code: string, reason: string) => Promise<void>
  /** A table that a given publication has since it was last looked at. */
  readonly added: (table: string) => Promise<void>
}

/** Notices what becomes of tables' publication, which the stream does not say: filters that change, partitions that come and go, tables that are added and dropped. */
export class PublicationWatch {
  readonly #options: PublicationWatchOptions
  readonly #repeating: Repeating
  readonly #trouble: SaidOnce
  /** Tables of which a change is being followed. */
  readonly #busy = new Set<string>()

  constructor(options: PublicationWatchOptions) {
    this.#options = options
    this.#trouble = new SaidOnce(
      options.logger,
      'the publication could not be looked at, so changes of it are noticed later; it is tried again',
    )
    this.#repeating = new Repeating(options.clock, options.intervalMs, () => this.look())
  }

  start(): void {
    this.#repeating.start()
  }

  /** Looks no more. What is being followed is left to whoever follows it. */
  async stop(): Promise<void> {
    await this.#repeating.stop()
  }

  /** Looks once; each change's promise resolves when it has been followed. What can't be looked at or followed is said, and most of it is met again at the next look. */
  async look(): Promise<{ readonly followed: Promise<unknown> }> {
    const changes = (await this.#trouble.attempt(() => this.#options.source.publicationChanges())) ?? []
    const news = changes.filter(({ table }) => !this.#busy.has(formatTableName(table)))
    // What is paused must not be in the way of the others.
    for (const change of news) if (change.kind === 'refused') await this.#follow(change)
    return { followed: Promise.all(news.filter(({ kind }) => kind !== 'refused').map((change) => this.#follow(change))) }
  }

  async #follow(change: PublicationChange): Promise<void> {
    const { added, logger, pause, resync } = this.#options
    const table = formatTableName(change.table)
    this.#busy.add(table)
    try {
      if (change.kind === 'changed') await resync(table, change.reason)
      else if (change.kind === 'refused') await pause(table, change.code, change.reason)
      else await added(table)
    } catch (error) {
      logger.warn('a change of the publication could not be followed', { table, change: change.kind, error: String(error) })
    } finally {
      this.#busy.delete(table)
    }
  }
}
