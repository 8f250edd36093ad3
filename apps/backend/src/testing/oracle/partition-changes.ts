import type { Dice } from './dice.ts'
import type { SchemaChange } from './schema-change.ts'
import { quote, quotedTable, slotBounds, SLOTS, type OracleTable, type Partition } from './tables.ts'

const isOpen = (table: OracleTable) => table.partitions !== undefined && table.isAbsent !== true
const hasOne = (table: OracleTable) => isOpen(table) && table.partitions!.length > 0
const freeSlots = ({ partitions = [] }: OracleTable) =>
  Array.from({ length: SLOTS }, (_, slot) => slot).filter((slot) => partitions.every((one) => one.slot !== slot))
const hasRoom = (table: OracleTable) => isOpen(table) && freeSlots(table).length > 0
const named = ({ name }: { readonly name: string }) => `public.${quote(name)}`

function newPartition(table: OracleTable, dice: Dice): Partition {
  const slot = dice.pick(freeSlots(table))
  return { name: `parted ${slot} ${dice.below(1_000_000)}`, slot }
}

const withPartition = (table: OracleTable, partition: Partition): OracleTable => ({
  ...table,
  partitions: [...table.partitions!, partition],
})
const withoutPartition = (table: OracleTable, partition: Partition): OracleTable => ({
  ...table,
  partitions: table.partitions!.filter((one) => one !== partition),
})

const replacing = (table: OracleTable, partition: Partition, by: Partition): OracleTable => ({
  ...table,
  partitions: table.partitions!.map((one) => (one === partition ? by : one)),
})
const partitioned = (table: OracleTable) => (isOpen(table) ? table.partitions!.filter(({ partitions = [] }) => partitions.length > 0) : [])
const leaves = (table: OracleTable) => (isOpen(table) ? table.partitions!.filter(({ partitions }) => partitions === undefined) : [])

/** A table like the partitioned one, save that nothing was ever dropped from it. */
const like = (table: OracleTable, partition: Partition) =>
  `CREATE TABLE ${named(partition)} (LIKE ${quotedTable(table)} INCLUDING DEFAULTS)`
const attach = (table: OracleTable, partition: Partition) =>
  `ALTER TABLE ${quotedTable(table)} ATTACH PARTITION ${named(partition)} FOR VALUES ${slotBounds(partition.slot)}`
const detach = (table: OracleTable, partition: Partition) => `ALTER TABLE ${quotedTable(table)} DETACH PARTITION ${named(partition)}`

/** What becomes of partitions. Nothing in the stream tells of it without event triggers, and with them nothing of a partition that is truncated, unless that has a trigger of its own. */
export const partitionChanges: readonly SchemaChange[] = [
  {
    name: 'make a partition',
    weight: 8,
    fits: hasRoom,
    make: (table, dice) => {
      const partition = newPartition(table, dice)
      const sql = `CREATE TABLE ${named(partition)} PARTITION OF ${quotedTable(table)} FOR VALUES ${slotBounds(partition.slot)}`
      return { sql, to: withPartition(table, partition), isStale: false, untold: { kind: 'partitions' } }
    },
  },
  {
    name: 'attach an empty partition',
    weight: 6,
    fits: hasRoom,
    make: (table, dice) => {
      const partition = newPartition(table, dice)
      const sql = `${like(table, partition)}; ${attach(table, partition)}`
      return { sql, to: withPartition(table, partition), isStale: true, untold: { kind: 'partitions' } }
    },
  },
  {
    // The rows of one that was there.
    name: 'detach a partition and attach another with its rows',
    weight: 6,
    fits: hasOne,
    make: (table, dice) => {
      const old = dice.pick(table.partitions!)
      const partition = { ...newPartition(withoutPartition(table, old), dice), slot: old.slot }
      const rows = `INSERT INTO ${named(partition)} SELECT * FROM ${named(old)} ORDER BY random() LIMIT 3`
      const sql = [detach(table, old), like(table, partition), rows, attach(table, partition)].join('; ')
      return { sql, to: withPartition(withoutPartition(table, old), partition), isStale: true, untold: { kind: 'unseen' } }
    },
  },
  {
    name: 'detach a partition',
    weight: 4,
    fits: hasOne,
    make: (table, dice) => {
      const partition = dice.pick(table.partitions!)
      return { sql: detach(table, partition), to: withoutPartition(table, partition), isStale: true, untold: { kind: 'unseen' } }
    },
  },
  {
    name: 'drop a partition',
    weight: 4,
    fits: hasOne,
    make: (table, dice) => {
      const partition = dice.pick(table.partitions!)
      return { sql: `DROP TABLE ${named(partition)}`, to: withoutPartition(table, partition), isStale: true, untold: { kind: 'unseen' } }
    },
  },
  {
    name: 'detach a partition for a moment',
    weight: 4,
    fits: hasOne,
    make: (table, dice) => {
      const partition = dice.pick(table.partitions!)
      const place = '(tableoid, ctid)'
      const rows = `DELETE FROM ${named(partition)} WHERE ${place} IN (SELECT tableoid, ctid FROM ${named(partition)} ORDER BY random() LIMIT 2)`
      const sql = [detach(table, partition), rows, attach(table, partition)].join('; ')
      return { sql, to: table, isStale: true, untold: { kind: 'unseen' } }
    },
  },
  {
    name: 'detach or drop a partition of a partition',
    weight: 4,
    fits: (table) => partitioned(table).length > 0,
    make: (table, dice) => {
      const above = dice.pick(partitioned(table))
      const gone = dice.pick(above.partitions!)
      const sql = dice.chance(0.5)
        ? `ALTER TABLE ${named(above)} DETACH PARTITION public.${quote(gone)}`
        : `DROP TABLE public.${quote(gone)}`
      const to = replacing(table, above, { ...above, partitions: above.partitions!.filter((name) => name !== gone) })
      return { sql, to, isStale: true, untold: { kind: 'unseen' } }
    },
  },
  {
    // It is written anew, less rows of which the stream has nothing.
    name: 'unlog a partition for a moment',
    weight: 3,
    fits: (table) => leaves(table).length > 0,
    make: (table, dice) => {
      const name = named(dice.pick(leaves(table)))
      const rows = `DELETE FROM ${name} WHERE ctid IN (SELECT ctid FROM ${name} ORDER BY random() LIMIT 2)`
      const sql = [`ALTER TABLE ${name} SET UNLOGGED`, rows, `ALTER TABLE ${name} SET LOGGED`].join('; ')
      return { sql, isStale: true, untold: { kind: 'unseen' } }
    },
  },
  {
    name: 'truncate a partition and fill it again',
    weight: 3,
    fits: hasOne,
    make: (table, dice) => {
      const name = named(dice.pick(table.partitions!))
      // No temporary one: such a transaction can't be prepared.
      const kept = `public.kept${dice.below(1_000_000)}`
      const sql = [
        `CREATE TABLE ${kept} AS SELECT * FROM ${name} ORDER BY random() LIMIT 3`,
        `TRUNCATE ${name}`,
        `INSERT INTO ${name} SELECT * FROM ${kept}`,
        `DROP TABLE ${kept}`,
      ].join('; ')
      return { sql, isStale: table.tellsTruncations === true, untold: { kind: 'unseen' } }
    },
  },
  {
    name: 'truncate a partition',
    weight: 4,
    fits: hasOne,
    make: (table, dice) => ({
      sql: `TRUNCATE ${named(dice.pick(table.partitions!))}`,
      isStale: table.tellsTruncations === true,
      untold: { kind: 'unseen' },
    }),
  },
]
