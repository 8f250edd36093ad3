import fc from 'fast-check'
import pg from 'pg'
import { Dice } from './dice.ts'
import { columnTypes, keyTypes, typeNamed, type OracleType } from './types.ts'

export interface OracleColumn {
  readonly name: string
  readonly type: OracleType
  readonly isNotNull: boolean
  /** Values that it takes where it is part of the key: few, so that keys come back. */
  readonly pool: readonly string[] | null
  /** Its publication leaves it out. */
  readonly isHidden?: true
}

/** One of a partitioned table. */
export interface Partition {
  readonly name: string
  /** It has rows whose `part` is from 100 times this on, to before 100 times the next. */
  readonly slot: number
  /** Its own partitions, by name; absent where it is not partitioned. */
  readonly partitions?: readonly string[]
}

/** What names the rows of a table in the change stream. */
export type Identity = 'primary key' | 'unique index' | 'full' | 'full with a key' | 'append-only'

export interface OracleTable {
  /** In schema `public`; not quoted. */
  readonly name: string
  readonly identity: Identity
  readonly columns: readonly OracleColumn[]
  /** The columns of the key; empty where there is none. */
  readonly key: readonly OracleColumn[]
  /** Statements that finish its definition. */
  readonly finish?: readonly string[]
  /** Its rows are named by all they hold (`REPLICA IDENTITY FULL`). */
  readonly isFull?: boolean
  /** Absent where it is not partitioned. */
  readonly partitions?: readonly Partition[]
  /** Triggers tell where a partition of it is truncated by itself. */
  readonly tellsTruncations?: boolean
  /** Its publication was there before the mirror. */
  readonly isGiven?: true
  /** A list of columns and a row filter that it is published with. */
  readonly published?: { readonly columns: readonly string[]; readonly filter: string }
  /** It was dropped; there may be another of its name later. */
  readonly isAbsent?: true
}

const NAMES = ['plain', 'Order Items', 'select', 'ünï', "it's", 'a_rather_long_name_for_a_table']
export const COLUMN_NAMES = ['a', 'b2', 'Upper', 'with space', 'select', 'quo"te', 'naïve', 'file_row_number', 'x.y', '_row', 'lsn', '1st']

/** A table as numbers, so that a scenario can be printed and made smaller. */
export interface TableShape {
  readonly identity: Identity
  /** Indexes of `keyTypes`. */
  readonly keys: readonly number[]
  /** Indexes of `columnTypes`. */
  readonly columns: readonly { readonly type: number; readonly isNotNull: boolean }[]
  readonly seed: number
}

export const tableShapes: fc.Arbitrary<TableShape[]> = fc.array(
  fc.record({
    identity: fc.constantFrom<Identity[]>(
      'primary key',
      'primary key',
      'primary key',
      'unique index',
      'full',
      'full',
      'full with a key',
      'append-only',
    ),
    keys: fc.array(fc.nat(keyTypes.length - 1), { minLength: 1, maxLength: 3 }),
    columns: fc.array(fc.record({ type: fc.nat(columnTypes.length - 1), isNotNull: fc.boolean() }), { minLength: 1, maxLength: 9 }),
    seed: fc.integer(),
  }),
  { minLength: 1, maxLength: 4 },
)

/** The table of a shape; `index` tells the tables of a scenario apart. */
export function makeTable({ identity, keys, columns, seed }: TableShape, index: number): OracleTable {
  const dice = new Dice(seed)
  const names = dice.some(COLUMN_NAMES, COLUMN_NAMES.length)
  const hasKey = identity !== 'full' && identity !== 'append-only'
  const key = hasKey ? keys.map((type) => keyColumn(names.pop()!, keyTypes[type], dice)) : []
  const others = columns.map(({ type, isNotNull }) => ({ name: names.pop()!, type: columnTypes[type], isNotNull, pool: null }))
  // The key is neither always first nor in the order of the columns.
  const mixed = dice.some([...key, ...others], key.length + others.length)
  return { name: `${NAMES[index]}${dice.below(10)}`, identity, columns: mixed, key, isFull: identity.startsWith('full') }
}

function keyColumn(name: string, type: OracleType, dice: Dice): OracleColumn {
  return { name, type, isNotNull: true, pool: Array.from({ length: dice.between(4, 40) }, () => type.value(dice, true)) }
}

function fixedTable(name: string, columns: Readonly<Record<string, string>>, finish: readonly string[]): OracleTable {
  const all = Object.entries(columns).map(([column, sql]) => {
    return { name: column, type: columnTypes.find((type) => type.sql === sql)!, isNotNull: column === 'id', pool: null }
  })
  return { name, identity: 'primary key', key: all.slice(0, 1), columns: all, finish }
}

/** A table for transactions that are too large to be handed on in one piece. */
export const bulkTable = fixedTable('bulk', { id: 'int8', pad: 'text' }, [])

/** Values out of line that most changes leave alone; rows go and move with those of `bulkTable`. */
export const notesTable = fixedTable('notes', { id: 'int8', about: 'int8', body: 'text', n: 'int4' }, [
  'ALTER TABLE public.notes ALTER body SET STORAGE EXTERNAL',
  'ALTER TABLE public.notes ADD FOREIGN KEY (about) REFERENCES public.bulk ON DELETE CASCADE ON UPDATE CASCADE',
  'CREATE INDEX ON public.notes (about)',
])

/** Ranges of `part`, of which some have a partition and some do not. */
export const SLOTS = 4
export const slotBounds = (slot: number) => `FROM (${slot * 100}) TO (${(slot + 1) * 100})`

/** A table partitioned by `part`; one of its partitions is partitioned too. */
export function partitionedTable(seed: number): OracleTable {
  const dice = new Dice(seed)
  const int = typeNamed('int4')
  const key = [
    { name: 'part', type: int, isNotNull: true, pool: Array.from({ length: 30 }, () => String(dice.below(SLOTS * 100))) },
    { name: 'k', type: int, isNotNull: true, pool: ['1', '2', '3'] },
  ]
  const others = ['a', 'b', 'c'].map((name) => ({ name, type: dice.pick(columnTypes), isNotNull: false, pool: null }))
  const below = ['one of the last', 'rest of the last']
  const partitions = Array.from({ length: SLOTS }, (_, slot): Partition => {
    return { name: `parted ${slot}`, slot, ...(slot === SLOTS - 1 && { partitions: below }) }
  })
  const [last, ...first] = [...partitions].reverse()
  const finish = [
    ...first.map(({ name, slot }) => `CREATE TABLE public.${quote(name)} PARTITION OF public.parted FOR VALUES ${slotBounds(slot)}`),
    `CREATE TABLE public.${quote(last.name)} PARTITION OF public.parted FOR VALUES ${slotBounds(last.slot)} PARTITION BY LIST (k)`,
    `CREATE TABLE public.${quote(below[0])} PARTITION OF public.${quote(last.name)} FOR VALUES IN (1, 2)`,
    `CREATE TABLE public.${quote(below[1])} PARTITION OF public.${quote(last.name)} DEFAULT`,
  ]
  return { name: 'parted', identity: 'primary key', key, columns: [...key, ...others], finish, isFull: false, partitions }
}

/** Of what is published with a list of columns and a row filter: few bytes, since Postgres does not send unchanged large ones of a row that an update brings in. */
const SMALL = ['boolean', 'int4', 'int8', 'numeric(9,2)', 'uuid', 'date', 'float8']

/** A table that is published in part; `hasFilter`: the server knows filters and lists of columns. */
export function filteredTable(seed: number, hasFilter: boolean): OracleTable {
  const dice = new Dice(seed)
  const key = [
    { name: 'id', type: typeNamed('int4'), isNotNull: true, pool: Array.from({ length: 20 }, (_, index) => String(index)) },
    { name: 'keep', type: typeNamed('int4'), isNotNull: true, pool: ['-1', '0', '1', '2'] },
  ]
  const others = ['a', 'b', 'c'].map((name) => ({ name, type: typeNamed(dice.pick(SMALL)), isNotNull: false, pool: null }))
  const table = { name: 'filtered', identity: 'primary key' as const, key, columns: [...key, ...others], isFull: false }
  if (!hasFilter) return table
  const [hidden, ...shown] = others
  const columns = [key[1], { ...hidden, isHidden: true as const }, key[0], ...shown]
  return { ...table, columns, published: { columns: ['id', 'keep', 'b', 'c'], filter: 'keep > 0' } }
}

/** The columns that a mirror shows. */
export const shownColumns = ({ columns }: OracleTable) => columns.filter(({ isHidden }) => isHidden !== true)

/** What a mirror shows, from the source. */
export function shownSql(table: OracleTable): string {
  const columns = shownColumns(table).map(({ name, type }) => (type.shown === undefined ? quote(name) : type.shown(quote(name))))
  return `SELECT ${columns.join(', ')} FROM ${quotedTable(table)}${table.published === undefined ? '' : ` WHERE ${table.published.filter}`}`
}

/** As a publication lists it. */
export function publishedSql(table: OracleTable): string {
  const { published } = table
  return `${quotedTable(table)}${published === undefined ? '' : ` (${published.columns.map(quote).join(', ')}) WHERE (${published.filter})`}`
}

/** Whether the table is one that statements of its own are for, whatever columns it has got since. */
export const isBulk = ({ name }: OracleTable) => name === bulkTable.name
export const isNotes = ({ name }: OracleTable) => name === notesTable.name
export const isFixed = (table: OracleTable) => isBulk(table) || isNotes(table)

/** Names of the columns that those statements are about. */
export function baseColumns(table: OracleTable): readonly string[] {
  const [base] = [bulkTable, notesTable].filter(({ name }) => name === table.name)
  return base === undefined
    ? table.key.filter(({ name }) => NAMED.includes(name)).map(({ name }) => name)
    : base.columns.map(({ name }) => name)
}

/** What partitions and filters are made by. */
const NAMED = ['part', 'keep']

/** The tables that a change of `table` may change. */
export const touchedBy = (table: OracleTable): readonly OracleTable[] => (isBulk(table) ? [bulkTable, notesTable] : [table])

export const quote = (name: string) => pg.escapeIdentifier(name)

/** `public."Order Items"`. */
export const quotedTable = (table: OracleTable) => `public.${quote(table.name)}`

/** As Moonlink names it: `public.Order Items`. */
export const mirrorName = (table: OracleTable) => `public.${table.name}`

/** The statements that make the table. */
export function tableDefinition(table: OracleTable): string[] {
  return [...declaration(table), ...(table.finish ?? [])]
}

function declaration(table: OracleTable): string[] {
  const name = quotedTable(table)
  const columns = table.columns.map((column) => `${quote(column.name)} ${column.type.sql}${column.isNotNull ? ' NOT NULL' : ''}`)
  const key = table.key.map((column) => quote(column.name)).join(', ')
  switch (table.identity) {
    case 'primary key':
      return [
        `CREATE TABLE ${name} (${columns.join(', ')}, PRIMARY KEY (${key}))${table.partitions === undefined ? '' : ' PARTITION BY RANGE (part)'}`,
      ]
    case 'full with a key':
      return [`CREATE TABLE ${name} (${columns.join(', ')}, PRIMARY KEY (${key}))`, `ALTER TABLE ${name} REPLICA IDENTITY FULL`]
    case 'unique index':
      return [
        `CREATE TABLE ${name} (${columns.join(', ')})`,
        `CREATE UNIQUE INDEX ${quote(`${table.name} chosen`)} ON ${name} (${key})`,
        `ALTER TABLE ${name} REPLICA IDENTITY USING INDEX ${quote(`${table.name} chosen`)}`,
      ]
    case 'full':
      return [`CREATE TABLE ${name} (${columns.join(', ')})`, `ALTER TABLE ${name} REPLICA IDENTITY FULL`]
    case 'append-only':
      return [`CREATE TABLE ${name} (${columns.join(', ')})`]
  }
}
