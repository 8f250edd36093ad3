/** What a query holds, given back once, the latest first. */
export class Holds {
  private releases: (() => void | Promise<void>)[] = []
  private released = false

  /** Gives it back at once where everything else was given back already. */
  add(release: () => void | Promise<void>): void {
    if (this.released) void release()
    else this.releases.push(release)
  }

  async release(): Promise<void> {
    this.released = true
    for (const release of this.releases.splice(0).toReversed()) await release()
  }
}
