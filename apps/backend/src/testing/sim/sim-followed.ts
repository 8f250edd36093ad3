import { formatTableName, type Lsn, type ResumePoint } from '@moonlink/core'
import { TABLES, type SimDatabase } from './sim-database.ts'

interface Followed {
  /** Which of the tables of that name. */
  readonly oid: number | null
  /** Nothing that was so up to here is told. */
  readonly throughLsn: Lsn
  isClosed: boolean
}

/** Which of the tables that had a name a stream follows: the one that its mirror has where it stands, until that is gone. */
export class SimFollowed {
  private readonly database: SimDatabase
  private readonly tables: ReadonlyMap<string, Followed>

  constructor(database: SimDatabase, resume: readonly ResumePoint[]) {
    this.database = database
    this.tables = new Map(TABLES.map((name) => [name, this.begun(name, resume)]))
  }

  /** Whether rows of that shape are its rows. */
  has(name: string, version: number | null): boolean {
    const { isClosed, oid } = this.tables.get(name)!
    return !isClosed && version !== null && this.database.shapes.get(name)!.oidOf(version) === oid
  }

  /** Whether its mirror has what ends there. */
  isPast(name: string, endLsn: Lsn): boolean {
    return endLsn <= this.tables.get(name)!.throughLsn
  }

  /** Whether its mirror is to learn that a transaction puts an end to it; it is followed no more then. */
  ends(name: string, endLsn: Lsn): boolean {
    const table = this.tables.get(name)!
    if (table.isClosed || this.isPast(name, endLsn)) return false
    return (table.isClosed = true)
  }

  private begun(name: string, resume: readonly ResumePoint[]): Followed {
    const shapes = this.database.shapes.get(name)!
    const point = resume.find(({ table }) => formatTableName(table) === name)
    const kept = point?.shape.sourceState ?? null
    const version = kept === null ? shapes.current : Number(kept)
    return { oid: version === null ? null : shapes.oidOf(version), throughLsn: point?.throughLsn ?? 0n, isClosed: false }
  }
}
