import type { ResolvedOptions } from './options.ts'

/** Removes files that are no part of the log any more, beside everything else. */
export class SegmentRemover {
  private readonly options: Pick<ResolvedOptions, 'disk' | 'lease' | 'logger'>
  private readonly names: string[] = []
  private removing: Promise<void> = Promise.resolve()

  constructor(options: Pick<ResolvedOptions, 'disk' | 'lease' | 'logger'>) {
    this.options = options
  }

  /** They are removed with the next `start`, and where that fails, with one after it. */
  add(segments: readonly { readonly name: string }[]): void {
    this.names.push(...segments.map(({ name }) => name))
  }

  /** Never waits for it. */
  start(): void {
    const names = this.names.splice(0)
    if (names.length > 0) this.removing = this.removing.then(() => this.remove(names))
  }

  /** Resolves once nothing is being removed. */
  async settled(): Promise<void> {
    await this.removing
  }

  private async remove(names: readonly string[]): Promise<void> {
    const { disk, logger } = this.options
    if (!(await this.mayRemove())) return
    for (const name of names) {
      await disk.remove(name).catch((error: unknown) => {
        logger.warn('a segment of the change log could not be removed', { file: disk.locate(name), error: String(error) })
        this.names.push(name)
      })
    }
  }

  /**
   * A successor may need what we do not. One that comes after this look begins with what was written down before `prune`, and no name is used twice: so a removal may come
   * after it, however late.
   */
  private async mayRemove(): Promise<boolean> {
    const { lease, logger } = this.options
    try {
      await lease?.check()
      return true
    } catch (error) {
      logger.warn('segments of the change log were left, since it is not certain that it is ours', { error: String(error) })
      return false
    }
  }
}
