import { quoteName } from '../sql-text.ts'
import { columnsOf, ExpressionWriter, KINDS, type Column, type Kind, type Scope, type Source } from './random-expression.ts'

interface Query {
  readonly sql: string
  readonly columns: readonly Column[]
}

export interface RandomStatement {
  readonly sql: string
  /** The statement without its limit, where any of its rows may come. */
  readonly unlimited: string | null
}

/** Writes random statements over the tables whose rows, or whose number, do not depend on anything but the tables' rows. */
export class StatementWriter extends ExpressionWriter {
  statement(): RandomStatement {
    const { choices } = this
    const exact = (sql: string): RandomStatement => ({ sql, unlimited: null })
    if (choices.chance(6)) return this.some()
    if (choices.chance(3)) return exact(`DESCRIBE ${this.tableName(choices.pick(this.tables))}`)
    if (choices.chance(3)) {
      const table = choices.pick(this.tables)
      // What is infinite has no deviation.
      const names = columnsOf(table)
        .filter(({ kind }) => kind !== 'real')
        .map(({ name }) => name)
      return exact(
        `SELECT column_name, column_type, "min", "max", count FROM (SUMMARIZE SELECT ${names.join(', ')} FROM ${this.tableName(table)})`,
      )
    }
    if (choices.chance(12)) return exact(this.counting())
    if (choices.chance(12)) return exact(this.pivot())
    if (choices.chance(25)) return exact(this.filtered())
    const { sql } = this.query(choices.below(4), [])
    if (choices.chance(25)) return exact(`SELECT * FROM (${sql}) ORDER BY ALL LIMIT ${choices.below(20)} OFFSET ${choices.below(5)}`)
    return exact(sql)
  }

  /** A few rows, whichever they are. */
  private some(): RandomStatement {
    const { choices } = this
    const { sql, relations } = this.base()
    const columns = choices.one(
      () => '*',
      () => `${relations[0].alias}.*`,
      () =>
        choices
          .some(relations[0].columns)
          .map((column) => column.name)
          .join(', '),
      () => `* EXCLUDE (${choices.pick(relations[0].columns.slice(1)).name})`,
    )
    const limit = choices.one(
      () => `LIMIT ${choices.below(300)}`,
      () => `OFFSET ${choices.below(300)}`,
      () => `LIMIT ${choices.below(30)} OFFSET ${choices.below(300)}`,
    )
    const unlimited = `SELECT ${columns} FROM ${sql}`
    return { sql: `${unlimited} ${limit}`, unlimited }
  }

  /** No column is named, or hardly any. */
  private counting(): string {
    const { choices } = this
    const [one, other] = [this.base(), this.base(false)]
    const joined = choices.pick([
      `${one.sql} NATURAL JOIN ${other.sql}`,
      `${one.sql} JOIN ${other.sql} USING (id)`,
      one.sql,
      `${one.sql} SEMI JOIN ${other.sql} USING (id)`,
      `${one.sql} CROSS JOIN (FROM ${other.sql} LIMIT 2)`,
    ])
    return choices.pick([
      `SELECT count(*) FROM ${joined}`,
      `WITH x AS (SELECT 1 FROM ${joined}) SELECT count(*) FROM x`,
      `WITH x AS MATERIALIZED (SELECT 1 AS one FROM ${joined}) SELECT count(*) FROM x, ${one.sql}`,
      `SELECT count(*) FROM (SELECT 1 FROM ${joined})`,
      `SELECT (SELECT count(*) FROM ${joined}), count(*) FROM ${other.sql}`,
      `SELECT 1 FROM ${one.sql} WHERE (SELECT count(*) FROM ${joined}) > 10`,
      `SELECT count(*) FROM ${one.sql} HAVING count(*) > 3`,
      `(SELECT count(*) FROM ${one.sql}) UNION ALL (SELECT count(*) FROM ${joined})`,
    ])
  }

  /** Rows of one table by a plain condition. */
  private filtered(): string {
    const { choices } = this
    const { sql, relations } = this.base()
    const condition = this.condition(relations, 2, choices.chance(70))
    const shown = choices.one(
      () => '*',
      () => 'count(*)',
      () => relations[0].alias,
      () => this.aggregate(relations),
      () => `${this.value(relations, choices.pick(KINDS), 1)} AS id, ${choices.pick(relations[0].columns).name} AS "Mixed Case"`,
      () => "COLUMNS('^[a-m]')",
      () => "COLUMNS(c -> c < 'n')",
      () => `DISTINCT ${choices.pick(relations[0].columns).name}`,
    )
    return `SELECT ${shown} FROM ${sql} WHERE ${condition}`
  }

  private pivot(): string {
    const { choices } = this
    const picked = choices.pick(this.tables)
    const [table, columns] = [this.tableName(picked), columnsOf(picked)]
    const column = columns.find(({ kind }) => kind === 'text')?.name ?? 'id'
    const values = ["'a'", "'note 7'", "'zzz'", "''"].map((text, index) => (column === 'id' ? String(index) : text)).join(', ')
    const names = choices
      .some(columns.filter(({ name }) => name !== column))
      .map(({ name }) => name)
      .join(', ')
    const alike = choices
      .some(columns.filter(({ kind }) => kind === 'num'))
      .map(({ name }) => name)
      .join(', ')
    return choices.pick([
      `SELECT * FROM (PIVOT ${table} ON ${column} IN (${values}) USING count(*))`,
      `SELECT * FROM (PIVOT ${table} ON ${column} IN (${values}) USING max(id) GROUP BY ${choices.pick(columns).name})`,
      `SELECT count(*) FROM ${table} PIVOT (count(*) FOR ${column} IN (${values}))`,
      `SELECT * FROM (SELECT ${column}, ${names} FROM ${table}) PIVOT (count(*) AS n, min(${column}) FOR ${column} IN (${values}))`,
      `WITH w AS (PIVOT ${table} ON ${column} IN (${values}) USING count(id)) SELECT count(*), count(DISTINCT w) FROM w`,
      `SELECT v FROM ${table} UNPIVOT (v FOR k IN (${alike}))`,
      `SELECT * FROM ${table} UNPIVOT INCLUDE NULLS (v FOR k IN (${alike}))`,
      `SELECT k, count(v) FROM (UNPIVOT ${table} ON ${alike} INTO NAME k VALUE v) GROUP BY ALL`,
      `SELECT k, count(*) FROM (UNPIVOT (SELECT COLUMNS(*)::VARCHAR FROM ${table}) ON COLUMNS(* EXCLUDE (id)) INTO NAME k VALUE v) GROUP BY k`,
    ])
  }

  private query(depth: number, outer: Scope): Query {
    const { choices } = this
    if (depth <= 0) return this.select(0, outer)
    return choices.one(
      () => this.select(depth, outer),
      () => this.select(depth, outer),
      () => this.grouped(depth, outer),
      () => this.windowed(depth, outer),
      () => this.together(depth, outer),
      () => this.withExpressions(depth, outer),
      () => this.distinctOn(depth, outer),
      () => this.starred(depth, outer),
    )
  }

  private select(depth: number, outer: Scope): Query {
    const { choices } = this
    const { sql, relations } = this.source(depth)
    const scope = [...relations, ...outer]
    const kinds = Array.from({ length: 1 + choices.below(3) }, () => choices.pick(KINDS))
    const columns = this.names(kinds)
    const list = columns.map(({ name, kind }) => `${this.value(scope, kind, depth)} AS ${name}`)
    const where = choices.chance(70) ? ` WHERE ${this.condition(scope, depth + 1, false)}` : ''
    return { sql: `SELECT ${choices.chance(15) ? 'DISTINCT ' : ''}${list.join(', ')} FROM ${sql}${where}`, columns }
  }

  private grouped(depth: number, outer: Scope): Query {
    const { choices } = this
    const { sql, relations } = this.source(depth - 1)
    const scope = [...relations, ...outer]
    const [key, other] = [choices.pick(KINDS), choices.pick(['num', 'text', 'bool'] as const)]
    const columns = this.names([key, other, 'big', 'any'])
    const [one, two, three, four] = columns.map(({ name }) => name)
    const keys = `${this.value(relations, key, 1)} AS ${one}, ${this.value(relations, other, 1)} AS ${two}`
    const list = `${keys}, count(*) AS ${three}, ${this.aggregate(scope)} AS ${four}`
    const groups = choices.pick(['ALL', '1, 2', 'ROLLUP (1, 2)', 'GROUPING SETS ((1, 2), (1), ())', 'CUBE (1, 2)'])
    const having = choices.chance(40) ? ` HAVING count(*) > ${choices.below(4)}` : ''
    const where = choices.chance(40) ? ` WHERE ${this.condition(scope, 1, false)}` : ''
    return { sql: `SELECT ${list} FROM ${sql}${where} GROUP BY ${groups}${having}`, columns }
  }

  private windowed(depth: number, outer: Scope): Query {
    const { choices } = this
    const { sql, relations } = this.source(depth - 1)
    const scope = [...relations, ...outer]
    const columns = this.names(['num', 'any'])
    const order = `${this.value(relations, choices.pick(KINDS), 1)} ${choices.pick(['', 'DESC', 'NULLS FIRST', 'DESC NULLS LAST'])}`
    const over = `OVER (${choices.chance(50) ? `PARTITION BY ${this.value(relations, 'num', 1)} % 3 ` : ''}ORDER BY ${order})`
    const call = choices.pick([
      'rank()',
      'dense_rank()',
      'count(*)',
      `sum(${this.value(relations, 'num', 0)})`,
      'percent_rank()',
      `max(id_)`,
    ])
    const window = `${call.replace('id_', this.value(relations, 'big', 0))} ${over}`
    const qualify = choices.chance(50) ? ` QUALIFY ${choices.chance(50) ? columns[1].name : window} < ${choices.below(60)}` : ''
    const where = choices.chance(40) ? ` WHERE ${this.condition(scope, 1, false)}` : ''
    return {
      sql: `SELECT ${this.value(scope, 'num', 1)} AS ${columns[0].name}, ${window} AS ${columns[1].name} FROM ${sql}${where}${qualify}`,
      columns,
    }
  }

  private together(depth: number, outer: Scope): Query {
    const { choices } = this
    const kinds = Array.from({ length: 1 + choices.below(2) }, () => choices.pick(KINDS))
    const columns = this.names(kinds)
    const part = () => {
      const { sql, relations } = this.source(depth - 1)
      const scope = [...relations, ...outer]
      const list = columns.map(({ name, kind }) => `${this.value(scope, kind, 1)} AS ${name}`)
      return `(SELECT ${list.join(', ')} FROM ${sql} WHERE ${this.condition(scope, 1, false)})`
    }
    const word = choices.pick([
      'UNION',
      'UNION ALL',
      'EXCEPT',
      'INTERSECT',
      'EXCEPT ALL',
      'INTERSECT ALL',
      'UNION BY NAME',
      'UNION ALL BY NAME',
    ])
    return { sql: `${part()} ${word} ${part()}`, columns }
  }

  private withExpressions(depth: number, outer: Scope): Query {
    const { choices } = this
    const before = this.expressions
    const query = this.query(depth - 1, [])
    // A name that a table has too hides it.
    const name = choices.chance(20) ? choices.pick(this.tables).table.name : `w${++this.named}`
    this.expressions = [...before, { name: quoteName(name), columns: query.columns }]
    const rest = this.query(depth - 1, outer)
    this.expressions = before
    return {
      sql: `WITH ${quoteName(name)} AS ${choices.pick(['', 'MATERIALIZED ', 'NOT MATERIALIZED '])}(${query.sql}) FROM (${rest.sql})`,
      columns: rest.columns,
    }
  }

  private distinctOn(depth: number, outer: Scope): Query {
    const { choices } = this
    const inner = this.query(depth - 1, outer)
    const key = choices.pick(inner.columns).name
    return {
      sql: `SELECT DISTINCT ON (${key}) * FROM (${inner.sql}) ORDER BY ${key}, ALL`.replace(
        ', ALL',
        inner.columns.map(({ name }) => `, ${name}`).join(''),
      ),
      columns: inner.columns,
    }
  }

  private starred(depth: number, outer: Scope): Query {
    const { choices } = this
    const { sql, relations } = this.base()
    const [{ alias, columns }] = relations
    const scope = [...relations, ...outer]
    const where = choices.chance(60) ? ` WHERE ${this.condition(scope, depth, false)}` : ''
    const left = choices.pick(columns.slice(1))
    const rest = columns.filter((column) => column !== left)
    const replaced = choices.pick(rest)
    return choices.one(
      () => ({ sql: `SELECT * FROM ${sql}${where}`, columns }),
      () => ({ sql: `SELECT ${alias}.* EXCLUDE (${left.name}) FROM ${sql}${where}`, columns: rest }),
      () => ({
        sql: `SELECT * EXCLUDE (${left.name}) REPLACE (${this.value(scope, replaced.kind, 1)} AS ${replaced.name}) FROM ${sql}${where}`,
        columns: rest,
      }),
      () => ({ sql: `FROM ${sql}${where}`, columns }),
      () => ({
        sql: `SELECT #${1 + choices.below(columns.length)} AS p FROM ${sql}${where}`,
        columns: [{ name: 'p', kind: 'any' as const }],
      }),
    )
  }

  private source(depth: number): Source {
    const { choices } = this
    if (depth <= 0 || choices.chance(45)) return choices.chance(70) ? this.base() : this.expression()
    return choices.one(
      () => this.sub(depth),
      () => this.join(depth),
      () => this.join(depth),
      () => this.lateral(depth),
    )
  }

  private expression(): Source {
    if (this.expressions.length === 0) return this.base(false)
    const { name, columns } = this.choices.pick(this.expressions)
    const alias = `e${++this.named}`
    return { sql: `${name} ${alias}`, relations: [{ alias, columns }] }
  }

  private sub(depth: number): Source {
    const { sql, columns } = this.query(depth - 1, [])
    const alias = `s${++this.named}`
    return { sql: `(${sql}) ${alias}`, relations: [{ alias, columns }] }
  }

  private join(depth: number): Source {
    const { choices } = this
    const left = this.source(depth - 1)
    const right = choices.one(
      () => this.base(false),
      () => this.expression(),
      () => this.sub(depth),
    )
    const relations = [...left.relations, ...right.relations]
    const [one, other] = [this.column(left.relations, 'num', true), this.column(right.relations, 'num', true)]
    const rest = choices.chance(30) ? ` AND ${this.condition(relations, 0, false)}` : ''
    const on = `ON ${one} = ${other}${rest}`
    const word = choices.pick(['JOIN', 'LEFT JOIN', 'RIGHT JOIN', 'FULL JOIN', 'SEMI JOIN', 'ANTI JOIN'])
    if (word === 'SEMI JOIN' || word === 'ANTI JOIN') return { sql: `${left.sql} ${word} ${right.sql} ${on}`, relations: left.relations }
    return { sql: `${left.sql} ${word} ${right.sql} ${on}`, relations }
  }

  private lateral(depth: number): Source {
    const { choices } = this
    const left = this.source(depth - 1)
    const alias = `l${++this.named}`
    return choices.one(
      () => ({
        sql: `${left.sql} CROSS JOIN LATERAL (SELECT ${this.value(left.relations, 'num', 1)} + 1 AS n) ${alias}`,
        relations: [...left.relations, { alias, columns: [{ name: 'n', kind: 'num' as const }] }],
      }),
      () => ({
        sql: `${left.sql} CROSS JOIN unnest(${this.value(left.relations, 'nums', 0)}) ${alias}(u)`,
        relations: [...left.relations, { alias, columns: [{ name: 'u', kind: 'num' as const }] }],
      }),
      () => {
        const inner = this.base()
        const match = `${this.column(inner.relations, 'num', true)} = ${this.column(left.relations, 'num', true)}`
        return {
          sql: `${left.sql} LEFT JOIN LATERAL (SELECT count(*) AS n FROM ${inner.sql} WHERE ${match}) ${alias} ON true`,
          relations: [...left.relations, { alias, columns: [{ name: 'n', kind: 'num' as const }] }],
        }
      },
    )
  }

  private names(kinds: readonly Kind[]): Column[] {
    const used = new Set<string>()
    return kinds.map((kind) => {
      // An alias may be the name of a column.
      let name = this.choices.chance(40) ? this.choices.pick(['id', 'note', '"Mixed Case"', '"order"', 'tags']) : `x${++this.named}`
      if (used.has(name)) name = `x${++this.named}`
      used.add(name)
      return { name, kind }
    })
  }
}
