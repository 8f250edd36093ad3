import { isComparable, isOpen } from './changed-table.ts'
import type { SchemaChange } from './schema-change.ts'
import { compositeTypes, enumTypes } from './types.ts'
import { SILENT } from './untold.ts'

/** What becomes of types, and so of each table that has them. */
export const typeChanges: readonly SchemaChange[] = [
  {
    name: 'add a value to an enum',
    weight: 1,
    fits: isOpen,
    make: (_, dice) => ({
      sql: `ALTER TYPE oracle_mood ADD VALUE 'added${dice.below(3)}'`,
      isStale: false,
      untold: { kind: 'nulls' },
      type: enumTypes,
    }),
  },
  {
    name: 'rename a value of an enum',
    weight: 0.5,
    fits: isComparable,
    make: (_, dice) => {
      const [from, to] = dice.some(['sad', 'ok', 'added0', 'added1', 'blue'], 2)
      return { sql: `ALTER TYPE oracle_mood RENAME VALUE '${from}' TO '${to}'`, isStale: true, untold: SILENT, type: enumTypes }
    },
  },
  {
    name: 'alter a composite',
    weight: 2,
    fits: isOpen,
    make: (_, dice) => {
      const sql = dice.pick([
        `ADD ATTRIBUTE z${dice.below(3)} ${dice.pick(['int4', 'text', 'numeric(9,2)'])}`,
        `DROP ATTRIBUTE z${dice.below(3)}`,
        `RENAME ATTRIBUTE ${dice.pick(['x', 'y', 'z0'])} TO ${dice.pick(['x', 'z1', 'z2'])}`,
      ])
      return { sql: `ALTER TYPE oracle_pair ${sql}`, isStale: false, untold: SILENT, type: compositeTypes }
    },
  },
]
