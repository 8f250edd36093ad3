import { isDefaultable, type Field, type FieldType, type Value } from '@moonlink/core'
import type { Choices } from './choices.ts'
import type { Fixture } from './fixture.ts'
import type { ModelTable, Row } from './model-table.ts'

const NOTES = ['', 'a', 'Ünï', '%', "it's", 'A', '😀', 'zzz', 'a longer text than twelve bytes']
const BIG = [2n ** 63n - 1n, -(2n ** 63n), 2n ** 53n + 1n, 0n, -1n]
const REAL = [0, -0, Number.NaN, Infinity, -Infinity, 0.1, 1e-45, 1e30]

const list = (element: FieldType, elementId: number): FieldType => ({ kind: 'list', elementId, element, elementRequired: false })

/** What columns a table may have beside its `id`. */
const COLUMNS: readonly (readonly [name: string, type: FieldType])[] = [
  ['note', { kind: 'string' }],
  ['Mixed Case', { kind: 'string' }],
  ['order', { kind: 'int' }],
  ['other', { kind: 'long' }],
  ['group', { kind: 'int' }],
  ['big', { kind: 'long' }],
  ['amount', { kind: 'decimal', precision: 12, scale: 2 }],
  ['ratio', { kind: 'float' }],
  ['rate', { kind: 'double' }],
  ['flag', { kind: 'boolean' }],
  ['day', { kind: 'date' }],
  ['at', { kind: 'timestamptz' }],
  ['tags', list({ kind: 'string' }, 100_000)],
  ['numbers', list({ kind: 'long' }, 200_000)],
  [
    'pair',
    {
      kind: 'struct',
      fields: [
        { id: 501, name: 'a', type: { kind: 'int' }, required: false },
        { id: 502, name: 'b', type: { kind: 'string' }, required: false },
      ],
    },
  ],
  ['key', { kind: 'uuid' }],
  ['bytes', { kind: 'binary' }],
]

const NAMES = [
  ['public', 'things'],
  ['public', 'Other Things'],
  ['shop', 'orders'],
  ['shop', 'x'],
] as const

/** Tables with a history: rows come and go, are flushed, and columns change, in whatever order. */
export class RandomWorld {
  readonly tables: readonly ModelTable[]
  private readonly choices: Choices
  private nextId = 0
  private nextFieldId = 1000

  constructor(choices: Choices, fixture: Fixture) {
    this.choices = choices
    this.tables = NAMES.slice(0, 1 + choices.below(3)).map(([schema, name]) => fixture.table({ schema, name }, this.fields()))
  }

  /** One change of one table; all tables are at the LSN after it. */
  async step(): Promise<void> {
    const { choices } = this
    const table = choices.pick(this.tables)
    const insert = () => table.insert(this.rows(table.fields, choices.chance(1) ? 2500 : 1 + choices.below(80)))
    const steps: readonly (() => unknown)[] = [
      insert,
      insert,
      insert,
      () => table.remove(this.picked()),
      () => table.remove(this.picked()),
      () => this.update(table),
      () => table.freeze(),
      () => table.flush(table.lsn - BigInt(choices.below(Number(table.lsn - table.floor) + 1))),
      () => table.addFile(this.rows(table.fields, 1 + choices.below(300))).then(() => (table.floor = table.lsn)),
      () => this.alter(table),
    ]
    await choices.pick(steps)()
    const lsn = this.tables.reduce((high, { lsn: one }) => (one > high ? one : high), 0n)
    for (const one of this.tables) one.lsn = lsn
  }

  /** The LSNs that every table can be read at. */
  get floor(): bigint {
    return this.tables.reduce((high, { floor }) => (floor > high ? floor : high), 0n)
  }

  private fields(): Field[] {
    const chosen = this.choices.some(COLUMNS)
    const id: Field = { id: 1, name: 'id', type: this.choices.pick([{ kind: 'long' }, { kind: 'int' }] as const), required: true }
    return [id, ...(chosen.length > 1 ? chosen : COLUMNS.slice(0, 2)).map(([name, type]) => this.field(name, type))]
  }

  private field(name: string, type: FieldType, initialDefault: Value = null): Field {
    return { id: ++this.nextFieldId, name, type, required: false, initialDefault }
  }

  private rows(fields: readonly Field[], count: number): Row[] {
    return Array.from({ length: count }, () => this.row(fields, this.nextId++))
  }

  private row(fields: readonly Field[], id: number): Row {
    return fields.map((field, index) => this.value(field.type, id, index === 0, field.name))
  }

  private value(type: FieldType, id: number, isId: boolean, name: string): Value {
    const mixed = Math.imul(id + name.length * 7919, 0x9e3779b1) >>> 8
    if (!isId && mixed % 9 === 0) return null
    switch (type.kind) {
      case 'int':
        return isId ? id : mixed % 300
      case 'long':
        return name === 'big' && mixed % 3 === 0 ? BIG[mixed % BIG.length] : BigInt(isId ? id : mixed % 400)
      case 'decimal':
        return BigInt(mixed % 40_000) * 5n
      case 'float':
        return Math.fround(mixed % 4 === 0 ? REAL[mixed % REAL.length] : (mixed % 400) / 10)
      case 'double':
        return mixed % 4 === 0 ? REAL[mixed % REAL.length] : (mixed % 400) / 10
      case 'boolean':
        return mixed % 2 === 0
      case 'date':
        return mixed % 50 === 0 ? -720_000 : 18_262 + (mixed % 400)
      case 'timestamptz':
        return 1_700_000_000_000_000n + BigInt(mixed % 500_000) * 1_000_003n
      case 'string':
        return mixed % 3 === 0 ? NOTES[mixed % NOTES.length] : `note ${mixed % 400}${mixed % 2 === 0 ? ' x' : ''}`
      case 'list':
        return Array.from({ length: mixed % 4 }, (_, index) => this.value(type.element, mixed + index, false, name))
      case 'struct':
        return type.fields.map((part) => this.value(part.type, mixed, false, part.name))
      case 'uuid':
        return Uint8Array.from({ length: 16 }, (_, index) => (mixed >> (index % 4)) & 255)
      default:
        return Uint8Array.from({ length: mixed % 20 }, (_, index) => (mixed * index) & 255)
    }
  }

  private default(type: FieldType): Value {
    const value = this.value(type, this.choices.below(100), false, '')
    return isDefaultable(type, value) ? value : null
  }

  private picked(): (row: Row) => boolean {
    const [modulus, rest, from] = [1 + this.choices.below(40), this.choices.below(40), this.choices.below(this.nextId + 1)]
    return ([id]) => Number(id) % modulus === rest % modulus && (modulus > 3 || Math.abs(Number(id) - from) < 150)
  }

  private update(table: ModelTable): void {
    const picks = this.picked()
    const rows = table.expected(table.lsn).filter(picks)
    table.remove(picks)
    table.insert(rows.map(([id]) => this.row(table.fields, this.choices.chance(80) ? Number(id) : this.nextId++)))
  }

  /** Columns come, go, and change their names and types. Below that LSN the table is not read any more. */
  private alter(table: ModelTable): void {
    const { choices } = this
    const { fields } = table
    const at = choices.below(fields.length)
    const unused = COLUMNS.filter(([name]) => !fields.some((field) => field.name === name))
    const added = unused.length > 0 ? choices.pick(unused) : null
    const changes: readonly (() => readonly Field[])[] = [
      () => (added === null ? fields : [...fields, this.field(added[0], added[1], choices.chance(50) ? this.default(added[1]) : null)]),
      () => (at === 0 || fields.length <= 3 ? fields : fields.toSpliced(at, 1)),
      () =>
        at === 0 || added === null || fields[at].type.kind !== added[1].kind ? fields : fields.with(at, { ...fields[at], name: added[0] }),
      () => (fields[at].type.kind === 'int' ? fields.with(at, { ...fields[at], type: { kind: 'long' } }) : fields),
      () => (fields[at].type.kind === 'float' ? fields.with(at, { ...fields[at], type: { kind: 'double' } }) : fields),
    ]
    table.alter(choices.pick(changes)())
  }
}
