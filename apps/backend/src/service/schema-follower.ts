import { formatTableName, type Logger } from '@moonlink/core'
import type { Engine } from '@moonlink/table-engine'

/** Takes on tables that were paused because their shape changed, each once for each reason: one that can't be stays paused. */
export class SchemaFollower {
  readonly #engine: Pick<Engine, 'status'>
  readonly #logger: Logger
  readonly #resync: (table: string, reason: string) => Promise<void>
  /** Tables whose change was followed, or can't be, by the reason of their pause. */
  readonly #followed = new Map<string, string>()

  constructor(engine: Pick<Engine, 'status'>, logger: Logger, resync: (table: string, reason: string) => Promise<void>) {
    this.#engine = engine
    this.#logger = logger
    this.#resync = resync
  }

  /** Starts what is due. Never waits for it. */
  look(): void {
    for (const { table, state, reason } of this.#engine.status()) {
      const name = formatTableName(table)
      if (state !== 'paused' || !reason?.startsWith('SCHEMA_CHANGED ') || this.#followed.get(name) === reason) continue
      this.#followed.set(name, reason)
      void this.#resync(name, 'its columns or key changed').then(
        () => this.#followed.delete(name),
        (error: unknown) => this.#logger.warn('the changed table was not taken on', { table: name, error: String(error) }),
      )
    }
  }
}
