import { alter, isComparable, isFree, isWhole } from './changed-table.ts'
import type { Dice } from './dice.ts'
import type { SchemaChange } from './schema-change.ts'
import { makeTable, quote, quotedTable, tableDefinition, type OracleTable } from './tables.ts'
import { columnTypes, keyTypes } from './types.ts'
import { COMPARED, SILENT } from './untold.ts'

/** Another of its name would be published. */
const isReplaceable = (table: OracleTable) => isFree(table) && isComparable(table) && table.isGiven !== true

/** What becomes of whole tables. */
export const tableChanges: readonly SchemaChange[] = [
  {
    name: 'drop a table',
    weight: 0.5,
    fits: isReplaceable,
    make: (table) => ({ sql: `DROP TABLE ${quotedTable(table)}`, to: { ...table, isAbsent: true }, isStale: true, untold: SILENT }),
  },
  {
    name: 'drop a table and make another of its name',
    weight: 1,
    fits: isReplaceable,
    make: (table, dice) => {
      const made = another(table, dice)
      return { sql: [`DROP TABLE ${quotedTable(table)}`, ...tableDefinition(made)].join('; '), to: made, isStale: true, untold: SILENT }
    },
  },
  {
    name: 'put another table in its place',
    weight: 1,
    fits: isReplaceable,
    make: (table, dice) => {
      const made = another(table, dice)
      const next = { ...made, name: `${table.name} next` }
      const away = dice.chance(0.5)
        ? [`DROP TABLE ${quotedTable(table)}`]
        : [
            `ALTER INDEX IF EXISTS ${primaryKeyOf(table)} RENAME TO ${quote(`${table.name} ${dice.next()} key`)}`,
            renamed(table, `${table.name} ${dice.next()}`),
          ]
      const sql = [
        ...tableDefinition(next),
        ...away,
        renamed(next, table.name),
        `ALTER INDEX IF EXISTS ${primaryKeyOf(next)} RENAME TO ${quote(`${table.name}_pkey`)}`,
      ]
      return { sql: sql.join('; '), to: made, isStale: true, untold: SILENT }
    },
  },
  {
    name: 'rename or move a table for a moment',
    weight: 1,
    fits: isComparable,
    make: (table, dice) => {
      const steps = dice.chance(0.5)
        ? [renamed(table, 'for a moment'), renamed({ ...table, name: 'for a moment' }, table.name)]
        : [alter(table, 'SET SCHEMA aside'), `ALTER TABLE aside.${quote(table.name)} SET SCHEMA public`]
      return { sql: steps.join('; '), to: table, isStale: true, untold: { kind: 'nulls' } }
    },
  },
  {
    name: 'write a table anew in the order of its key',
    weight: 2,
    fits: (table) => isComparable(table) && isWhole(table),
    make: (table) => ({
      sql: `CLUSTER ${quotedTable(table)} USING ${quote(`${table.name}_pkey`)}`,
      isStale: false,
      untold: COMPARED,
    }),
  },
  {
    name: 'make a table again',
    weight: 30,
    fits: (table) => table.isAbsent === true,
    make: (table, dice) => {
      const made = another(table, dice)
      return { sql: tableDefinition(made).join('; '), to: made, isStale: true, untold: SILENT }
    },
  },
]

const primaryKeyOf = ({ name }: OracleTable) => `public.${quote(`${name}_pkey`)}`
const renamed = (table: OracleTable, name: string) => alter(table, `RENAME TO ${quote(name)}`)

function another({ name, sendsGenerated }: OracleTable, dice: Dice): OracleTable {
  const made = makeTable(
    {
      identity: dice.pick(['primary key', 'full']),
      keys: [dice.below(keyTypes.length)],
      columns: Array.from({ length: dice.between(1, 4) }, () => ({ type: dice.below(columnTypes.length), isNotNull: dice.chance(0.3) })),
      seed: dice.next(),
    },
    0,
  )
  return { ...made, name, ...(sendsGenerated === true && { sendsGenerated }) }
}
