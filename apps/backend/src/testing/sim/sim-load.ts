import type { Dice } from './random.ts'
import { BAG, KEYED, TABLES, type SimChange, type SimDatabase, type SimPart } from './sim-database.ts'
import type { SimProfile } from './sim-profile.ts'
import { FIRST_TEXT, KEY, type SimRow } from './sim-rows.ts'

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
    const tables = dice.chance(0.5) ? TABLES : [dice.chance(0.6) ? KEYED : BAG]
    database.commit(tables.map((table) => this.part(table)))
  }

  /** Keys that were lost are given again. */
  lostKeys(): void {
    const keys = this.database.rowsOf(KEYED).map((row) => row[KEY] as number)
    this.nextId = Math.max(0, ...keys) + 1
  }

  private part(table: string): SimPart {
    const { database, dice } = this
    const shapes = database.shapes.get(table)!
    const version = shapes.current
    let rows = [...database.rowsOf(table)]
    const changes: SimChange[] = []
    const alters = this.altersTables && dice.chance(this.profile.alterShare)
    const { largeChanges, largeShare, maxChanges } = this.profile
    const most = largeShare > 0 && dice.chance(largeShare) ? largeChanges : maxChanges
    for (let count = 1 + dice.below(most); count > 0; count--) changes.push(this.change(table, rows))
    if (!alters) return { table, version, changes }
    const draw = dice.next()
    if (draw < 0.4) {
      changes.push({ kind: 'truncate' })
      rows = []
    } else if (draw < 0.75) {
      if (dice.chance(0.6) || !shapes.dropColumn(dice.below(10))) shapes.addColumn(dice.chance(0.5) ? 'by default' : null)
      changes.push({ kind: 'reshape', version: shapes.current })
    } else {
      changes.push({ kind: 'rewrite', rows: rows.map((row) => ({ ...row, [FIRST_TEXT]: `rewritten ${dice.below(3)}` })) })
      return { table, version, changes }
    }
    for (let count = dice.below(3); count > 0; count--) changes.push(this.change(table, rows))
    return { table, version, changes }
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
    const row = this.row(table, table === KEYED && draw < 0.78 ? this.nextId++ : (old[KEY] as number))
    rows.push(row)
    return { kind: 'update', old, row }
  }

  private row(table: string, id: number): SimRow {
    const { database, dice } = this
    const shapes = database.shapes.get(table)!
    const others = shapes.at(shapes.current).schema.fields.filter(({ id: field }) => field !== KEY)
    const cell = ({ type }: (typeof others)[number]) => {
      if (dice.chance(0.1)) return null
      const number = dice.below(4)
      return type.kind === 'variant' ? `{"t": [${number}, null]}` : `t${number}`
    }
    return Object.fromEntries([[KEY, id], ...others.map((field) => [field.id, cell(field)])])
  }
}
