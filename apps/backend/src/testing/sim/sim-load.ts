import type { Dice } from './random.ts'
import { BAG, KEYED, TABLES, type SimChange, type SimDatabase, type SimPart } from './sim-database.ts'
import type { SimProfile } from './sim-profile.ts'
import { fieldIdsOf, type SimRow } from './sim-rows.ts'

/** How soon a table that was dropped is made anew: the share of the transactions after. */
const CREATED_SHARE = 0.5

/** Whoever writes to the database. */
export class SimLoad {
  private readonly database: SimDatabase
  private readonly dice: Dice
  /** Whether tables change their columns, lose all rows and are rewritten, besides what rows do. */
  private readonly altersTables: boolean
  private readonly profile: SimProfile
  private nextId = 1

  constructor(database: SimDatabase, dice: Dice, altersTables: boolean, profile: SimProfile) {
    this.profile = profile
    this.database = database
    this.dice = dice
    this.altersTables = altersTables
  }

  transact(): void {
    const { database, dice } = this
    const { aloneShare } = this.profile
    const isAlone = aloneShare > 0 && dice.chance(aloneShare)
    const tables = isAlone ? [KEYED] : dice.chance(0.5) ? TABLES : [dice.chance(0.6) ? KEYED : BAG]
    database.commit(tables.map((table) => this.part(table)))
  }

  /** What was dropped is made anew. */
  makeMissing(): void {
    const { database } = this
    const missing = TABLES.filter((table) => database.shapeOf(table) === null)
    if (missing.length > 0) database.commit(missing.map((table) => ({ table, version: null, changes: this.created(table) })))
  }

  /** Keys that were lost are given again. */
  lostKeys(): void {
    const { database } = this
    const shape = database.shapeOf(KEYED)
    const keys = shape === null ? [] : database.rowsOf(KEYED).map((row) => row[fieldIdsOf(shape.schema).key] as number)
    this.nextId = Math.max(0, ...keys) + 1
  }

  private part(table: string): SimPart {
    const { database, dice } = this
    const { remakeShare } = this.profile
    const shapes = database.shapes.get(table)!
    const version = shapes.current
    if (version === null) return { table, version, changes: dice.chance(CREATED_SHARE) ? this.created(table) : [] }
    let rows = [...database.rowsOf(table)]
    const changes: SimChange[] = []
    const alters = this.altersTables && dice.chance(this.profile.alterShare)
    const { largeChanges, largeShare, maxChanges } = this.profile
    const most = largeShare > 0 && dice.chance(largeShare) ? largeChanges : maxChanges
    for (let count = 1 + dice.below(most); count > 0; count--) changes.push(this.change(table, rows))
    if (remakeShare > 0 && dice.chance(remakeShare)) return { table, version, changes: [...changes, ...this.dropped(table)] }
    if (!alters) return { table, version, changes }
    const draw = dice.next()
    if (draw < 0.4) {
      changes.push({ kind: 'truncate' })
      rows = []
    } else if (draw < 0.75) {
      if (dice.chance(0.6) || !shapes.dropColumn(dice.below(10))) shapes.addColumn(dice.chance(0.5) ? 'by default' : null)
      changes.push({ kind: 'reshape', version: shapes.current! })
    } else {
      const { text } = fieldIdsOf(shapes.at(version).schema)
      changes.push({ kind: 'rewrite', rows: rows.map((row) => ({ ...row, [text]: `rewritten ${dice.below(3)}` })) })
      return { table, version, changes }
    }
    for (let count = dice.below(3); count > 0; count--) changes.push(this.change(table, rows))
    return { table, version, changes }
  }

  /** And made anew at once, now and then. */
  private dropped(table: string): SimChange[] {
    this.database.shapes.get(table)!.drop()
    return [{ kind: 'drop' }, ...(this.dice.chance(CREATED_SHARE) ? this.created(table) : [])]
  }

  private created(table: string): SimChange[] {
    const { database, dice } = this
    const shapes = database.shapes.get(table)!
    shapes.create()
    const rows: SimRow[] = []
    const changes: SimChange[] = [{ kind: 'create', version: shapes.current! }]
    for (let count = dice.below(3); count > 0; count--) changes.push(this.change(table, rows))
    return changes
  }

  /** One that `rows`, which it changes too, allow. */
  private change(table: string, rows: SimRow[]): SimChange {
    const { dice } = this
    const draw = dice.next()
    if (rows.length === 0 || draw < 0.5) {
      const row = this.row(table, table === BAG ? dice.below(5) : this.nextId++)
      rows.push(row)
      return { kind: 'insert', row }
    }
    const [old] = rows.splice(dice.below(rows.length), 1)
    if (draw < 0.7) return { kind: 'delete', old }
    const row = this.row(table, table === KEYED && draw < 0.78 ? this.nextId++ : (old[this.keyOf(table)] as number))
    rows.push(row)
    return { kind: 'update', old, row }
  }

  private keyOf(table: string): number {
    return fieldIdsOf(this.database.shapeOf(table)!.schema).key
  }

  private row(table: string, id: number): SimRow {
    const { database, dice } = this
    const [key, ...others] = database.shapeOf(table)!.schema.fields
    const cell = ({ type }: (typeof others)[number]) => {
      if (dice.chance(0.1)) return null
      const number = dice.below(4)
      return type.kind === 'variant' ? `{"t": [${number}, null]}` : `t${number}`
    }
    return Object.fromEntries([[key.id, id], ...others.map((field) => [field.id, cell(field)])])
  }
}
