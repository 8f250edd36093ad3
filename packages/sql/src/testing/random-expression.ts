import type { FieldType } from '@moonlink/core'
import { quoteName, quoteText } from '../sql-text.ts'
import type { Choices } from './choices.ts'
import type { ModelTable } from './model-table.ts'

/** What may be done with a column. `big` is compared, never added up; `any` is only shown. */
export type Kind = 'num' | 'big' | 'dec' | 'real' | 'text' | 'bool' | 'date' | 'stamp' | 'texts' | 'nums' | 'pair' | 'any'

export interface Column {
  /** Quoted where it has to be. */
  readonly name: string
  readonly kind: Kind
}

interface Relation {
  readonly alias: string
  readonly columns: readonly Column[]
}

export interface Source {
  readonly sql: string
  readonly relations: readonly Relation[]
}

export type Scope = readonly Relation[]

const TEXTS = ['', 'a', 'note 7', 'note 12 x', 'Ünï', '%', "it's", 'A', '😀', 'zzz']
const COMPARISONS = ['=', '<>', '<', '<=', '>', '>=', 'IS DISTINCT FROM', 'IS NOT DISTINCT FROM']
export const KINDS: readonly Kind[] = ['num', 'big', 'dec', 'real', 'text', 'bool', 'date', 'stamp', 'texts', 'nums', 'pair']

/** Writes random expressions over columns in scope, and over the tables. */
export abstract class ExpressionWriter {
  protected readonly choices: Choices
  protected readonly tables: readonly ModelTable[]
  protected named = 0
  /** Table expressions in scope. */
  protected expressions: readonly { readonly name: string; readonly columns: readonly Column[] }[] = []

  constructor(choices: Choices, tables: readonly ModelTable[]) {
    this.choices = choices
    this.tables = tables
  }

  protected base(mayBeBare = true): Source {
    const { choices } = this
    const table = choices.pick(this.tables)
    const columns = columnsOf(table)
    const name = this.tableName(table)
    if (mayBeBare && choices.chance(25)) return { sql: name, relations: [{ alias: quoteName(table.table.name), columns }] }
    const alias = choices.chance(30) ? quoteName(`T ${++this.named}`) : `t${++this.named}`
    if (choices.chance(85)) return { sql: `${name} AS ${alias}`, relations: [{ alias, columns }] }
    const renamed = columns.map(({ kind }, index) => ({ name: index === 0 ? 'id' : `r${index}`, kind }))
    return { sql: `${name} AS ${alias}(${renamed.map((column) => column.name).join(', ')})`, relations: [{ alias, columns: renamed }] }
  }

  /** A condition; a `plain` one without functions and subqueries. */
  protected condition(scope: Scope, depth: number, plain: boolean): string {
    const { choices } = this
    if (depth > 0 && choices.chance(45)) {
      const [one, other] = [this.condition(scope, depth - 1, plain), this.condition(scope, depth - 1, plain)]
      return choices.pick([
        `(${one} AND ${other})`,
        `(${one} OR ${other})`,
        `(NOT ${one})`,
        `((${one}) IS NOT TRUE)`,
        `(${one} AND ${other})`,
      ])
    }
    const kind = choices.pick(KINDS)
    const value = plain ? this.column(scope, kind) : this.value(scope, kind, depth)
    if (plain || depth <= 0 || choices.chance(60)) return this.plainCondition(scope, kind, value)
    return choices.one(
      () => this.textCondition(scope),
      () => this.existence(scope, depth),
      () => `${value} ${choices.pick(['', 'NOT '])}IN (SELECT ${this.inner(kind)})`,
      () => `${this.value(scope, 'nums', 1)} ${choices.pick(['=', '<', '<>'])} [1, NULL, 3]`,
      () => `list_contains(${this.value(scope, 'texts', 1)}, ${this.value(scope, 'text', 0)})`,
    )
  }

  private plainCondition(scope: Scope, kind: Kind, value: string): string {
    const { choices } = this
    return choices.one(
      () => `(${value} ${choices.pick(COMPARISONS)} ${this.literal(kind)})`,
      () => `(${value} ${choices.pick(COMPARISONS)} ${this.literal(kind)})`,
      () => `(${value} ${choices.pick(COMPARISONS)} ${this.column(scope, kind)})`,
      () =>
        kind === 'pair' || kind === 'nums' || kind === 'texts'
          ? 'true'
          : `(${value} ${choices.pick(['', 'NOT '])}BETWEEN ${this.literal(kind)} AND ${this.literal(kind)})`,
      () => `(${value} ${choices.pick(['', 'NOT '])}IN (${this.literal(kind)}, ${this.literal(kind)}, NULL))`,
      () => `(${value} IN (${this.literal(kind)}, ${this.literal(kind)}))`,
      () => `(${value} IS ${choices.pick(['', 'NOT '])}NULL)`,
      () => `(coalesce(${value}, ${this.literal(kind)}) ${choices.pick(COMPARISONS)} ${this.literal(kind)})`,
      () => `(CAST(${value} AS VARCHAR) ${choices.pick(COMPARISONS)} ${this.literal('text')})`,
    )
  }

  private textCondition(scope: Scope): string {
    const text = this.value(scope, 'text', 1)
    return this.choices.pick([
      `${text} LIKE 'note%'`,
      `${text} NOT LIKE '%1_%'`,
      `${text} ILIKE 'NOTE 1%'`,
      `${text} ~ '^[a-n]'`,
      `${text} SIMILAR TO 'note [0-9]+.*'`,
      `regexp_matches(${text}, '[0-9]{2}')`,
      `starts_with(${text}, 'note 1')`,
      `${text} LIKE '%'`,
      `${text} GLOB 'n*7'`,
      `prefix(${text}, '😀')`,
    ])
  }

  private existence(scope: Scope, depth: number): string {
    const { sql, relations } = this.base()
    const match = `${this.column(relations, 'num', true)} = ${this.column(scope, 'num', true)}`
    const more = this.choices.chance(50) ? ` AND ${this.condition([...relations, ...scope], depth - 1, false)}` : ''
    return `${this.choices.pick(['', 'NOT '])}EXISTS (FROM ${sql} WHERE ${match}${more})`
  }

  /** `expression FROM …` for a subquery of one column. */
  private inner(kind: Kind): string {
    const { sql, relations } = this.base()
    const where = this.choices.chance(60) ? ` WHERE ${this.condition(relations, 0, false)}` : ''
    return `${this.value(relations, kind, 0)} FROM ${sql}${where}`
  }

  protected aggregate(scope: Scope): string {
    const { choices } = this
    const kind = choices.pick(KINDS)
    const value = this.value(scope, kind, 1)
    const filter = choices.chance(30) ? ` FILTER (WHERE ${this.condition(scope, 1, false)})` : ''
    const call = choices.pick([
      `count(${value})`,
      `count(DISTINCT ${value})`,
      `min(${value})`,
      `max(${value})`,
      `sum(${this.value(scope, 'num', 1)})`,
      `sum(${this.value(scope, 'dec', 0)})`,
      `avg(${this.value(scope, 'num', 0)})`,
      `bool_or(${this.value(scope, 'bool', 1)})`,
      `list_sort(list(DISTINCT ${value}))`,
      `list_sort(list(${value}))`,
      `count(*)`,
      `median(${this.value(scope, 'num', 0)})`,
    ])
    return call.startsWith('list_sort(') ? `${call.slice(0, -1)}${filter})` : `${call}${filter}`
  }

  protected value(scope: Scope, kind: Kind, depth: number): string {
    const { choices } = this
    if (depth <= 0 || choices.chance(55)) return choices.chance(92) ? this.column(scope, kind) : this.literal(kind)
    const value = (of: Kind) => this.value(scope, of, depth - 1)
    const general = () =>
      choices.one(
        () => `coalesce(${value(kind)}, ${value(kind)})`,
        () => `CASE WHEN ${this.condition(scope, depth - 1, false)} THEN ${value(kind)} ELSE ${value(kind)} END`,
        () => `nullif(${value(kind)}, ${value(kind)})`,
        () => `(SELECT max(${this.inner(kind).replace(' FROM', ') FROM')})`,
        () => `greatest(${value(kind)}, ${value(kind)})`,
      )
    switch (kind) {
      case 'num':
        return choices.one(
          general,
          () => `(${value('num')} + ${choices.below(9)})`,
          () => `length(${value('text')})`,
          () => `len(${value('texts')})`,
          () => `(${value('num')} % 7)`,
          () => `(${value('pair')}).a`,
          () => `(${value('nums')})[1]`,
          () => `try_cast(${value('text')} AS INTEGER)`,
          () => `list_sum(list_transform(${value('nums')}, lambda x: x + 1))::BIGINT`,
          () => `year(${value('date')})`,
        )
      case 'text':
        return choices.one(
          general,
          () => `(${value('text')} || '!')`,
          () => `upper(${value('text')})`,
          () => `${value('num')}::VARCHAR`,
          () => `substr(${value('text')}, 1, 4)`,
          () => `(${value('pair')})['b']`,
          () => `(${value('texts')})[-1]`,
          () => `regexp_replace(${value('text')}, '[0-9]', '#', 'g')`,
          () => `array_to_string(${value('texts')}, '/')`,
          () => `strftime(${value('date')}, '%Y-%j')`,
        )
      case 'bool':
        return this.condition(scope, depth - 1, false)
      case 'nums':
        return choices.one(
          general,
          () => `list_filter(${value('nums')}, lambda x: x > ${this.literal('num')})`,
          () => `[x * 2 FOR x IN ${value('nums')}]`,
          () => `[${value('num')}, NULL]`,
          () => `list_transform(${value('nums')}, lambda x, i: x + i)`,
        )
      case 'texts':
        return choices.one(
          general,
          () => `list_transform(${value('texts')}, lambda x: x || ${this.column(scope, 'text')})`,
          () => `string_split(${value('text')}, ' ')`,
        )
      case 'pair':
        return choices.one(general, () => `{'a': ${value('num')}::INTEGER, 'b': ${value('text')}}`)
      default:
        return general()
    }
  }

  /** A column of that kind, or a value where there is none. */
  protected column(scope: Scope, kind: Kind, qualified = false): string {
    const columns = this.columnsOf(scope, kind, qualified)
    return columns.length > 0 ? this.choices.pick(columns) : this.literal(kind)
  }

  private columnsOf(scope: Scope, kind: Kind, qualified: boolean): string[] {
    const counts = Map.groupBy(
      scope.flatMap(({ columns }) => columns),
      ({ name }) => name.toLowerCase(),
    )
    return scope.flatMap(({ alias, columns }) =>
      columns
        .filter((column) => column.kind === kind)
        .map(({ name }) =>
          qualified || counts.get(name.toLowerCase())!.length > 1 || this.choices.chance(50) ? `${alias}.${name}` : name,
        ),
    )
  }

  private literal(kind: Kind): string {
    const { choices } = this
    if (choices.chance(4)) return `CAST(NULL AS ${SQL_TYPES[kind]})`
    const n = choices.below(400)
    switch (kind) {
      case 'num':
        return String(n)
      case 'big':
        return choices.pick([String(n), '9223372036854775807', '-9223372036854775808', '1e3', '99999999999999999999', `${n}.5`])
      case 'dec':
        return choices.pick([`${n}.25`, `${n}`, `${n / 4}e0`, `'${n}.50'::DECIMAL(12,2)`])
      case 'real':
        return choices.pick([`${n / 10}e0`, `${n / 10}`, "'nan'::FLOAT", "'-infinity'::DOUBLE", '0', '-0.0e0', '1e-1', `${n}::FLOAT / 10`])
      case 'text':
        return quoteText(choices.pick([...TEXTS, `note ${n}`, `note ${n} x`]))
      case 'bool':
        return choices.pick(['true', 'false'])
      case 'date':
        return choices.pick([`DATE '2020-01-01' + ${n}`, `DATE '2020-06-0${1 + (n % 9)}'`, "'2020-03-04'::DATE", "DATE '0044-03-15 (BC)'"])
      case 'stamp':
        return choices.pick([`TIMESTAMPTZ '2023-11-15 0${n % 10}:13:20+00'`, "'2023-11-20 01:02:03+02'::TIMESTAMPTZ"])
      case 'texts':
        return choices.pick(["['a', NULL]", "['note 7']", '[]::VARCHAR[]'])
      case 'nums':
        return choices.pick(['[1, 2]', `[${n}]::BIGINT[]`, '[]::BIGINT[]'])
      case 'pair':
        return choices.pick([`{'a': ${n}, 'b': 'note ${n}'}`, "{'a': NULL::INTEGER, 'b': 'a'}"])
      case 'any':
        return '1'
    }
  }

  protected tableName({ table: { schema, name } }: ModelTable): string {
    const quoted = this.choices.chance(50) && /^[a-z]+$/.test(name) ? name : quoteName(name)
    const isHidden = this.expressions.some((expression) => expression.name === quoteName(name))
    return isHidden || this.choices.chance(50) ? `${schema}.${quoted}` : quoted
  }
}

const SQL_TYPES: Record<Kind, string> = {
  num: 'BIGINT',
  big: 'BIGINT',
  dec: 'DECIMAL(12,2)',
  real: 'FLOAT',
  text: 'VARCHAR',
  bool: 'BOOLEAN',
  date: 'DATE',
  stamp: 'TIMESTAMPTZ',
  texts: 'VARCHAR[]',
  nums: 'BIGINT[]',
  pair: 'STRUCT(a INTEGER, b VARCHAR)',
  any: 'INTEGER',
}

export function columnsOf(table: ModelTable): Column[] {
  return table.fields.map(({ name, type }) => ({
    name: ['id', 'note', 'tags', 'amount'].includes(name) ? name : quoteName(name),
    kind: kindOf(name, type),
  }))
}

function kindOf(name: string, type: FieldType): Kind {
  switch (type.kind) {
    case 'int':
    case 'long':
      return name === 'big' ? 'big' : 'num'
    case 'decimal':
      return 'dec'
    case 'float':
    case 'double':
      return 'real'
    case 'string':
      return 'text'
    case 'boolean':
      return 'bool'
    case 'date':
      return 'date'
    case 'timestamptz':
      return 'stamp'
    case 'list':
      return type.element.kind === 'string' ? 'texts' : 'nums'
    case 'struct':
      return 'pair'
    default:
      return 'any'
  }
}
