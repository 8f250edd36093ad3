import { formatTableName, type TableName } from '@moonlink/core'
import type { Relation } from './mirrored-table.ts'

/** The last Relation message of each relation, as what the server will not send again. */
export class RelationDescriptions {
  private readonly latest = new Map<number, Relation>()
  /** What `latest` had before the open transaction, where that changed it. */
  private readonly earlier = new Map<number, Relation | undefined>()

  get(oid: number): Relation | undefined {
    return this.latest.get(oid)
  }

  /** Those of relations that had this name last. */
  named(table: TableName): readonly Relation[] {
    const name = formatTableName(table)
    return [...this.latest.values()].filter((relation) => formatTableName(relation) === name)
  }

  note(relation: Relation, inTransaction: boolean): void {
    if (inTransaction && !this.earlier.has(relation.oid)) this.earlier.set(relation.oid, this.latest.get(relation.oid))
    this.latest.set(relation.oid, relation)
  }

  /** The open transaction has ended. */
  settle(): void {
    this.earlier.clear()
  }

  /** As they were at the end of the last transaction. */
  settled(): readonly Relation[] {
    const relations = new Map<number, Relation | undefined>([...this.latest, ...this.earlier])
    return [...relations.values()].filter((relation) => relation !== undefined)
  }
}
