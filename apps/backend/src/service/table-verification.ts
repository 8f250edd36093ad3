import { formatLsn, formatTableName, isMoonlinkError, MoonlinkError, type Lsn, type TableName, type TableShape } from '@moonlink/core'
import { Verification, type VerifyEvent, type VerifyOutcome } from '../verify/verification.ts'
import { Verifier, type VerifierParts, type VerifyTarget } from '../verify/verifier.ts'
import type { BackendParts } from './backend-parts.ts'
import type { MirrorSet } from './mirror-set.ts'
import { notMirrored } from './not-mirrored.ts'

export interface TableVerificationOptions extends Pick<BackendParts, 'clock' | 'config' | 'engine' | 'logger' | 'source' | 'telemetry'> {
  readonly mirrors: Pick<MirrorSet, 'comparable' | 'known' | 'unopened'>
  readonly query: VerifierParts['query']
}

/** The comparison of a backend's tables with their source: of those that stream, and of the others why not. */
export class TableVerification {
  readonly #options: TableVerificationOptions
  readonly #verification: Verification

  constructor(options: TableVerificationOptions) {
    const { clock, config, logger, mirrors, query, source, telemetry } = options
    this.#options = options
    this.#verification = new Verification({
      verifier: new Verifier({
        openSnapshot: () => source.snapshot(),
        shape: (table, lsn) => this.#shapeOf(table, lsn),
        sourceMark: (table, shape) => this.#sourceMark(table, shape),
        fieldSources: (table, shape) => source.fieldSources(table, shape),
        rowFilter: (table, snapshot) => source.rowFilter(table, snapshot),
        query,
        clock,
        logger,
      }),
      clock,
      logger,
      telemetry,
      targets: () => mirrors.comparable(),
      share: config.verify.share,
      minPauseMs: config.verify.minPauseMs,
    })
  }

  /** What is known of each table's last comparison, by name. */
  get outcomes(): ReadonlyMap<string, VerifyOutcome> {
    return this.#verification.outcomes
  }

  start(): void {
    this.#verification.start()
  }

  async stop(): Promise<void> {
    await this.#verification.stop()
  }

  /** What a table was like before says nothing any more. */
  forget(name: string): void {
    this.#verification.outcomes.delete(name)
  }

  /** `null`: all tables, with the reason of each that can't be compared now. Throws where a named one can't be. */
  run(names: readonly string[] | null): AsyncIterable<VerifyEvent> {
    const { mirrors } = this.#options
    const known = mirrors.known()
    const comparable = new Map(mirrors.comparable().map((target) => [formatTableName(target.table), target]))
    const named = (name: string): VerifyTarget => {
      const target = comparable.get(name)
      if (target !== undefined) return target
      throw known.includes(name) ? this.#whyNotComparable(name) : notMirrored(name, known)
    }
    if (names !== null) return this.#verification.run(names.map(named))
    const others = known.filter((name) => !comparable.has(name))
    return this.#verification.run([...comparable.values()], new Map(others.map((name) => [name, this.#whyNotComparable(name)])))
  }

  async #sourceMark(table: TableName, shape: TableShape): Promise<string | null> {
    try {
      return (await this.#options.source.evolved(table, shape)).mark
    } catch (error) {
      // What keeps it from being mirrored may leave its rows alone.
      if (isMoonlinkError(error, 'invalid')) return error.code
      throw error
    }
  }

  #shapeOf(table: TableName, lsn?: Lsn): TableShape {
    const name = formatTableName(table)
    const mirror = this.#options.engine.mirror(name)
    if (mirror === undefined)
      throw new MoonlinkError('retry', 'TABLE_COPYING', `${name} is still being copied; try again when it is streaming.`)
    if (lsn === undefined) return mirror.shape
    if (lsn >= mirror.reads.floor) return mirror.reads.shapeAt(lsn)
    throw new MoonlinkError('retry', 'LSN_NOT_HELD', `${name} was committed at an LSN after ${formatLsn(lsn)}; try again.`)
  }

  /** Of a known table that does not stream. What passes by itself is worth another try. */
  #whyNotComparable(name: string): MoonlinkError {
    const mirror = this.#options.engine.mirror(name)
    const isLasting = this.#options.mirrors.unopened.has(name) || mirror?.currentPhase === 'paused' || mirror?.currentPhase === 'failed'
    if (isLasting) {
      return new MoonlinkError(
        'invalid',
        'TABLE_NOT_STREAMING',
        `${name} can't be verified: it is paused or failed (moonlink status tells).`,
      )
    }
    const [code, state] = mirror?.isResyncing ? ['TABLE_RESYNCING', 'made equal to its source'] : ['TABLE_COPYING', 'copied']
    return new MoonlinkError('retry', code, `${name} is being ${state}; verify it once that is done (moonlink status tells).`)
  }
}
