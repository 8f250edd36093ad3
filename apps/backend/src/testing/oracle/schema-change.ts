import type { Dice } from './dice.ts'
import type { OracleTable } from './tables.ts'
import type { Untold } from './untold.ts'

/** What a statement makes of one table. */
export interface Alteration {
  readonly name: string
  /** The table afterwards; absent where its columns and its key stay. */
  readonly to?: OracleTable
  /** Whether the mirror may have to read the table again where triggers tell of it: LSNs from here until it has may be refused. */
  readonly isStale: boolean
  /** What the stream and the catalog tell of it where no trigger does; of what is `unseen` and not stale, triggers tell nothing. */
  readonly untold: Untold
}

/** A change of schema. To let the oracle do more, add one to a list of them. */
export interface SchemaChange {
  readonly name: string
  readonly weight: number
  readonly fits: (table: OracleTable) => boolean
  readonly make: (table: OracleTable, dice: Dice) => Made
}

export interface Made {
  readonly sql: string
  /** Absent where no column and no key changes. */
  readonly to?: OracleTable
  readonly isStale: boolean
  readonly untold: Untold
  /** Each of its rows is written anew. */
  readonly isRewritten?: boolean
  /** Of a type: every table that has a column of it. */
  readonly type?: readonly string[]
}
