import type { SegmentId } from '@moonlink/core'
import type { DuckDBConnection } from '@duckdb/node-api'
import type { DeletesTable } from './deletes-table.ts'

/** Rows of a block: 8 KiB of bits. */
export const BLOCK_BITS = 16

/**
 * The dead rows of some files as a native table of bitmaps (segment, block, bits), where they have any: those dead in every plan whose
 * `endSeq` is at least `seq`. It never changes; later deaths are among the facts that it was made of.
 *
 * A join with a fact for each dead row has to be built anew by each query, even one that looks at few rows. This one is small.
 */
export class DeadBits {
  readonly name: string
  readonly seq: number
  readonly segments: ReadonlySet<SegmentId>
  users = 0
  lastUsedMs = 0
  private readonly connection: DuckDBConnection
  private readonly facts: DeletesTable
  private readonly factCount: number

  private constructor(connection: DuckDBConnection, name: string, facts: DeletesTable, segments: ReadonlySet<SegmentId>, seq: number) {
    this.connection = connection
    this.name = name
    this.facts = facts
    this.factCount = facts.factCount
    this.segments = segments
    this.seq = seq
  }

  /** `facts` must hold every dead row of the segments in plans that end at `endSeq`. */
  static async create(
    connection: DuckDBConnection,
    name: string,
    facts: DeletesTable,
    segments: readonly SegmentId[],
    endSeq: number,
  ): Promise<DeadBits> {
    const mask = 2 ** BLOCK_BITS - 1
    await connection.run(
      `CREATE TABLE ${name} AS
       SELECT segment, ("row" >> ${BLOCK_BITS})::BIGINT AS block, bitstring_agg(("row" & ${mask})::INTEGER, 0, ${mask}) AS bits
       FROM ${facts.name} WHERE seq < ${endSeq} AND segment IN (${segments.join(', ')}) GROUP BY ALL`,
    )
    return new DeadBits(connection, name, facts, new Set(segments), endSeq)
  }

  /** Whether bits, made now, would be much better than `present`; with fewer than `minFacts` a join with them is as good. */
  static areDue(present: DeadBits | null, facts: DeletesTable, minFacts: number): boolean {
    if (facts.factCount < minFacts) return false
    if (present === null || present.facts !== facts) return true
    return facts.factCount - present.factCount > Math.max(minFacts, present.factCount / 4)
  }

  async drop(): Promise<void> {
    await this.connection.run(`DROP TABLE IF EXISTS ${this.name}`)
  }
}
