import { isComparable } from './changed-table.ts'
import { columnChanges } from './column-changes.ts'
import type { Dice } from './dice.ts'
import { generatedChanges } from './generated-changes.ts'
import { keyChanges } from './key-changes.ts'
import type { Statement } from './operations.ts'
import { partitionChanges } from './partition-changes.ts'
import { publicationChanges } from './publication-changes.ts'
import type { Made, SchemaChange } from './schema-change.ts'
import { tableChanges } from './table-changes.ts'
import type { OracleTable } from './tables.ts'
import { typeChanges } from './type-changes.ts'
import { compositeTypes } from './types.ts'
import { COMPARED, type Untold } from './untold.ts'

const changes: readonly SchemaChange[] = [
  ...columnChanges,
  ...generatedChanges,
  ...keyChanges,
  ...typeChanges,
  ...tableChanges,
  ...partitionChanges,
  ...publicationChanges,
]

/** What changes of schema are called. */
export const changeNames: readonly string[] = changes.map(({ name }) => name)

/** A change of schema that fits, by their weights. `tables`: all that there are; `isTold`: triggers tell of it. */
export function chooseChange(
  table: OracleTable,
  dice: Dice,
  tables: readonly OracleTable[],
  isTold: boolean,
): { name: string; statement: Statement } {
  const fitting = changes.filter((change) => change.fits(table))
  const total = fitting.reduce((sum, { weight }) => sum + weight, 0)
  let left = (dice.next() / 2 ** 32) * total
  const { make, name } = fitting.find(({ weight }) => (left -= weight) < 0) ?? fitting[0]
  const made = make(table, dice)
  const altered =
    made.type === undefined ? [table] : tables.filter(({ columns }) => columns.some(({ type }) => made.type!.includes(type.sql)))
  const isWrapped = isTold && isComparable(table) && dice.chance(0.1)
  return {
    name,
    statement: {
      sql: isWrapped ? `DO $oracle$ BEGIN ${made.sql}; END $oracle$` : made.sql,
      values: [],
      tables: altered,
      holdsUp: made.type === compositeTypes,
      // A rewrite from within a function counts as one that computes values.
      alters: altered.map((one) => ({
        name: one.name,
        ...(made.to !== undefined && { to: made.to }),
        isStale: made.isStale || (isWrapped && made.isRewritten === true),
        untold: one.partitions === undefined || made.type !== undefined ? made.untold : ofPartitions(made),
      })),
    },
  }
}

/** What older rows have of a new column is known by its partitions alone, and each of those that is written anew looks as if it had been emptied. */
function ofPartitions({ isRewritten, untold }: Made): Untold {
  if (isRewritten === true || untold.kind === 'compared') return { kind: 'compared', isNoticedAgain: 'always' }
  return ['add', 'add without a default'].includes(untold.kind) ? COMPARED : untold
}
