import { isDeepStrictEqual } from 'node:util'
import type { Lsn } from '@moonlink/core'
import type { DdlMessage } from './ddl-message.ts'
import type { RelationShape, ShapeColumn, ShapeType } from './relation-shape.ts'

type ShapeMessage = Extract<DdlMessage, { kind: 'shape' }>
type TypesMessage = Extract<DdlMessage, { kind: 'types' }>

/** Who told of a change, and what they could see of the changes of others. */
export type Teller = Pick<ShapeMessage, 'xid' | 'snapshot' | 'sinceLsn' | 'isFresh'>

/** What somebody said of types. */
export interface ToldChange {
  /** Those that they altered. */
  readonly oids: ReadonlySet<number>
  /** What these are now, and all others that were seen. */
  readonly types: readonly ShapeType[]
}

/** So many are known of types that no mirrored table uses. */
const MAX_LATEST = 1000

/** What a message about types says. */
export function alteredTypes({ altered, types }: TypesMessage): ToldChange {
  return { oids: new Set(altered), types }
}

/** What a message about a table says of the type of its rows, which columns of others may have. */
export function alteredRowType({ relation: { columns, name, rowTypeOid: oid, schema, types } }: ShapeMessage): ToldChange {
  const attributes = columns.map(({ dimensions, name, number, typeOid, typmod }) => ({ name, number, typeOid, typmod, dimensions }))
  const none = { elementOid: 0, baseOid: 0, baseTypmod: -1, baseDimensions: 0, partOid: 0, extension: null, labels: null, changedBy: null }
  return {
    oids: new Set([oid]),
    types: [{ ...none, oid, name, schema, kind: 'c', isSendable: true, delimiter: ',', attributes }, ...types],
  }
}

/**
 * Whether who told of a change saw what another transaction did, or (`<xid`) what the catalog had when that one was the next; null: nobody told, and the catalog had it
 * where the stream began or before.
 */
export function isAware({ isFresh, snapshot, xid }: Teller, other: string | null): boolean {
  if (other === null) return isFresh
  if (other === xid) return true
  const [first, next, running] = snapshot.split(':')
  const isBefore = other.startsWith('<')
  const id = BigInt(isBefore ? other.slice(1) : other)
  // Looked at once the stream is beyond that, or with the same transactions ended at least.
  if (isBefore) return isFresh || id < BigInt(next) || (id === BigInt(next) && running === '')
  return id < BigInt(first) || (id < BigInt(next) && !running.split(',').includes(other))
}

/**
 * Types as the transactions that a stream has brought so far left them, in the order of their commits. Whoever tells of a table, or of a type that is made of
 * others, tells what they saw of types; where another transaction has altered one and they did not see it, what that one said counts.
 */
export class ToldTypes {
  private readonly startLsn: Lsn
  /** By their object ids, the latest last. `change` is null where it may have been rolled back. */
  private readonly latest = new Map<number, { readonly xid: string; readonly change: ToldChange | null }>()
  /** The newest of the transactions of which something was forgotten. */
  private forgotten = 0n

  /** What was told in transactions that ended at `startLsn` or before is not known. */
  constructor(startLsn: Lsn) {
    this.startLsn = startLsn
  }

  /** Once every table that has one of the types has taken the change. */
  note({ xid }: Teller, change: ToldChange, isDoubtful: boolean): void {
    for (const oid of change.oids) {
      this.latest.delete(oid)
      this.latest.set(oid, { xid, change: isDoubtful ? null : change })
    }
    for (const [oid, { xid }] of this.latest) {
      if (this.latest.size <= MAX_LATEST) break
      this.latest.delete(oid)
      if (BigInt(xid) > this.forgotten) this.forgotten = BigInt(xid)
    }
  }

  /**
   * The types of columns with all that they are made of, as they are once `teller` has committed. `known`: what the table's mirror has of them. Null where a type was
   * altered by two who did not know of each other, or where that can't be told.
   */
  merge(columns: readonly ShapeColumn[], teller: Teller, change: ToldChange, known: RelationShape): ShapeType[] | null {
    const merged = new Map<number, ShapeType>()
    const parts: ShapeType[] = []
    const open = columns.map(({ typeOid }) => typeOid)
    for (let oid = open.pop(); oid !== undefined; oid = open.pop()) {
      if (merged.has(oid)) continue
      const type = this.latestOf(oid, teller, change, known, parts)
      if (type === null) return null
      merged.set(oid, type)
      open.push(...partsOf(type))
    }
    // In the order that they had, so that what is the same looks so.
    const kept = known.types.flatMap(({ oid }) => merged.get(oid) ?? [])
    return [...kept, ...[...merged.values()].filter((type) => !kept.includes(type))]
  }

  /** `parts`: what types are made of that were taken from who altered them last. */
  private latestOf(oid: number, teller: Teller, { oids, types }: ToldChange, known: RelationShape, parts: ShapeType[]): ShapeType | null {
    const [told, ours] = [types, known.types].map((list) => list.find((type) => type.oid === oid))
    const latest = this.latest.get(oid)
    const changed = latest?.change?.types.find((type) => type.oid === oid)
    const isCurrent = latest === undefined || isSameType(changed, ours)
    if (ours !== undefined && isCurrent && isSameType(told, ours)) return ours
    const changedBy = latest?.xid ?? ours?.changedBy ?? null
    const isNew = ours === undefined && changedBy === null
    // What the table was told with was seen by who saw that.
    const since = teller.isFresh ? changedBy : (changedBy ?? known.changedBy)
    if (told !== undefined && (isNew ? this.isKnowing(told, teller) : isAware(teller, since)))
      return { ...told, changedBy: oids.has(oid) ? teller.xid : changedBy }
    if (oids.has(oid)) return null
    if (changed === undefined) return latest === undefined ? (ours ?? parts.find((type) => type.oid === oid) ?? null) : null
    parts.push(...latest!.change!.types)
    return { ...changed, changedBy }
  }

  /** Whether nobody can have altered a type that the mirror has not met without the teller's seeing it. */
  private isKnowing({ schema }: ShapeType, { isFresh, sinceLsn, snapshot }: Teller): boolean {
    return schema === 'pg_catalog' || (isFresh && sinceLsn >= this.startLsn && this.forgotten < BigInt(snapshot.split(':')[0]))
  }
}

function isSameType(a: ShapeType | undefined, b: ShapeType | undefined): boolean {
  return a !== undefined && b !== undefined && isDeepStrictEqual({ ...a, changedBy: null }, { ...b, changedBy: null })
}

function partsOf({ attributes, baseOid, elementOid, partOid }: ShapeType): number[] {
  return [elementOid, baseOid, partOid, ...attributes.map(({ typeOid }) => typeOid)].filter((oid) => oid !== 0)
}
