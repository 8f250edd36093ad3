import { added, alter, isComparable, isFree, isWhole, newColumn, replaced } from './changed-table.ts'
import type { Dice } from './dice.ts'
import type { SchemaChange } from './schema-change.ts'
import { quote, quotedTable, type OracleColumn, type OracleTable } from './tables.ts'
import { typeNamed } from './types.ts'
import { COMPARED, type Untold } from './untold.ts'

const isNameable = (table: OracleTable) => isFree(table) && isComparable(table) && isWhole(table) && table.published === undefined
const hasPrimaryKey = (table: OracleTable) => table.identity === 'primary key' || table.identity === 'full with a key'
/** What it is published with goes by the key. */
const hasOwnKey = (table: OracleTable) => isFree(table) && hasPrimaryKey(table) && table.key.length > 0 && table.published === undefined
const primaryKey = (table: OracleTable) => quote(`${table.name}_pkey`)
const sqlOf = (names: readonly OracleColumn[]) => names.map(({ name }) => quote(name)).join(', ')
const isIndexable = ({ isGenerated, isNotNull, type }: OracleColumn) => isGenerated !== true && isNotNull && type.isKeyable
const keyable = (table: OracleTable) => table.columns.filter(({ isGenerated, type }) => isGenerated !== true && type.isKeyable)

/** What becomes of the key, and of what names rows. */
export const keyChanges: readonly SchemaChange[] = [
  {
    // With one column more or fewer, or another one.
    name: 'change the primary key',
    weight: 4,
    fits: (table) => hasOwnKey(table) && keyable(table).length > 0,
    make: (table, dice) => {
      const more = dice.pick(keyable(table))
      const columns = dice.pick([
        [...table.key, more],
        [more, ...table.key.slice(1)],
        table.key.slice(0, Math.max(1, table.key.length - 1)),
      ])
      const steps = [`DROP CONSTRAINT ${primaryKey(table)}`, `ADD PRIMARY KEY (${sqlOf(columns)})`]
      const sql = dice.chance(0.5) ? alter(table, steps.join(', ')) : steps.map((step) => alter(table, step)).join('; ')
      const untold: Untold = table.isFull === true ? COMPARED : { kind: 'key' }
      return { sql, to: keyedBy(table, columns, dice), isStale: false, untold }
    },
  },
  {
    name: 'a primary key of new numbers',
    weight: 1,
    fits: (table) => hasOwnKey(table) && isWhole(table),
    make: (table, dice) => {
      const column = { ...newColumn(table, dice, typeNamed('int4')), isNotNull: true }
      const sql = alter(
        table,
        `ADD ${quote(column.name)} serial, DROP CONSTRAINT ${primaryKey(table)}, ADD PRIMARY KEY (${quote(column.name)})`,
      )
      return { sql, to: keyedBy(added(table, column), [column], dice), isStale: true, untold: COMPARED }
    },
  },
  {
    name: 'identify rows by another index',
    weight: 3,
    fits: (table) => isNameable(table) && table.columns.some(isIndexable),
    make: (table, dice) => {
      const columns = dice.some(table.columns.filter(isIndexable), dice.between(1, 2))
      const index = `${table.name} index ${dice.below(1_000_000)}`
      const sql = `CREATE UNIQUE INDEX ${quote(index)} ON ${quotedTable(table)} (${sqlOf(columns)}); ${alter(table, `REPLICA IDENTITY USING INDEX ${quote(index)}`)}`
      return { sql, to: { ...table, isFull: false }, isStale: false, untold: { kind: 'key' } }
    },
  },
  {
    name: 'identify rows by all they hold, or by the primary key',
    weight: 3,
    fits: isNameable,
    make: (table, dice) => {
      const isFull = !(hasPrimaryKey(table) && dice.chance(0.5))
      const sql = alter(table, `REPLICA IDENTITY ${isFull ? 'FULL' : 'DEFAULT'}`)
      return { sql, to: { ...table, isFull }, isStale: false, untold: { kind: 'key' } }
    },
  },
]

function keyedBy(table: OracleTable, columns: readonly OracleColumn[], dice: Dice): OracleTable {
  const key = [...new Set(columns)].map((column) => {
    const pool = column.pool ?? Array.from({ length: 20 }, () => column.type.value(dice, true))
    return { old: column, now: { ...column, pool, isNotNull: true } }
  })
  const keyed = key.reduce((so, { now, old }) => replaced(so, old, now), table)
  return { ...keyed, key: key.map(({ now }) => now) }
}
