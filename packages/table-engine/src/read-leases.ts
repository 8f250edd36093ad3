import { formatTableName, type Lsn } from '@moonlink/core'
import type { ReadLease, TablePlan } from '@moonlink/union-read'

/** The leases that readers hold, and so the data files that must stay. */
export class ReadLeases {
  private readonly counts = new Map<string, number>()

  /** Data files that running reads hold. */
  paths(): ReadonlySet<string> {
    return new Set(this.counts.keys())
  }

  /** One cut of the planned tables at `lsn`; its files stay until it is released. */
  grant(lsn: Lsn, plans: readonly TablePlan[]): ReadLease {
    const paths = plans.flatMap((plan) => plan.files.map((file) => file.path))
    for (const path of paths) this.counts.set(path, (this.counts.get(path) ?? 0) + 1)
    let released = false
    return {
      lsn,
      tables: new Map(plans.map((plan) => [formatTableName(plan.table), plan])),
      release: () => {
        if (released) return
        released = true
        for (const path of paths) this.letGoOf(path)
      },
    }
  }

  private letGoOf(path: string): void {
    const count = this.counts.get(path)! - 1
    if (count === 0) this.counts.delete(path)
    else this.counts.set(path, count)
  }
}
