import { adoptEarly, beginEarlyWrite, writeEarly, type EarlyWriteSizes } from './early-write.ts'
import type { MirrorState } from './mirror-state.ts'
import type { Mutex } from './mutex.ts'
import type { SealedFiles } from './sealed-files.ts'
import type { StagedFiles } from './staged-files.ts'

/** `nothing`: the open transaction, if there is one, has no segment worth a file. */
export type EarlyOutcome = 'done' | 'nothing'

export interface EarlyWriterParts {
  /** The mirror's lock, under which its state changes. */
  readonly lock: Mutex
  /** The mirror's state now: a reload replaces it. Null where nothing may be written. */
  readonly state: () => MirrorState | null
  readonly sizes: EarlyWriteSizes
  readonly sealedFiles: SealedFiles
  readonly stagedFiles: StagedFiles
}

/** Writes segments of a mirror's open transaction as files, one at a time, beside applying. */
export class EarlyWriter {
  private readonly parts: EarlyWriterParts
  private running: Promise<EarlyOutcome> | null = null

  constructor(parts: EarlyWriterParts) {
    this.parts = parts
  }

  get isRunning(): boolean {
    return this.running !== null
  }

  /** Writes one segment, of `leastBytes` at least; where a write is under way, waits for that one. Throws what the storage throws; nothing is lost then. */
  write(leastBytes = Infinity): Promise<EarlyOutcome> {
    this.running ??= this.writeOne(Math.min(leastBytes, this.parts.sizes.leastSegment)).finally(() => {
      this.running = null
    })
    return this.running
  }

  /** Waits for the write under way, if there is one. Its failure is for whoever asked for it. */
  async settled(): Promise<void> {
    await this.running?.catch(() => undefined)
  }

  private async writeOne(leastBytes: number): Promise<EarlyOutcome> {
    const { lock, sealedFiles, stagedFiles } = this.parts
    const begun = await lock.run(() => {
      const state = this.parts.state()
      const early = state && beginEarlyWrite(state, leastBytes)
      return early && { state, early }
    })
    if (begun === null) return 'nothing'
    const { state, early } = begun
    const written = await writeEarly(state, early, sealedFiles, stagedFiles)
    const { path, recordCount } = written.staged
    const opened = state.appendOnly ? null : sealedFiles.opened({ path, recordCount }, early.identity)
    const index = await Promise.resolve(opened).catch((error: unknown) => {
      // Another attempt writes another file.
      stagedFiles.abandon([path])
      throw error
    })
    const isAdopted = await lock.run(() => this.parts.state() === state && adoptEarly(state, early, written, index))
    if (!isAdopted) {
      index?.close()
      await sealedFiles.remove(path, early.identity)
      stagedFiles.abandon([path])
    }
    return 'done'
  }
}
