import { MoonlinkError } from '@moonlink/core'

/** A type of the source with all that it is made of. Plain data. */
export interface SourceType {
  readonly oid: number
  /** `pg_type.typname`: int4, _int4, timestamptz, mood. */
  readonly name: string
  readonly schema: string
  /** The extension that brought it. */
  readonly extension: string | null
  /** `pg_type.typtype`: b base, c composite, d domain, e enum, m multirange, p pseudo, r range. */
  readonly kind: string
  /** Has a binary form. */
  readonly isSendable: boolean
  /** What stands between the elements of an array of it. */
  readonly delimiter: string
  /** Of an array, its elements' type. */
  readonly element: SourceType | null
  /** Of a domain. */
  readonly base: TypeUse | null
  /** Of a range the type of its bounds, of a multirange the range. */
  readonly part: SourceType | null
  /** Of a composite, in order. */
  readonly attributes: readonly SourceAttribute[]
  /** Of an enum: each value's own oid, which a rename leaves alone, and its label. */
  readonly labels: readonly EnumLabel[]
}

export type EnumLabel = readonly [oid: number, label: string]

/** A type as a column, an attribute or a domain uses it. */
export interface TypeUse {
  readonly type: SourceType
  /** -1 for none. */
  readonly typmod: number
  /** How many dimensions an array was declared with; Postgres does not hold anybody to it. */
  readonly dimensions: number
}

export interface SourceAttribute extends TypeUse {
  readonly name: string
  /** `attnum`, which is never reused. */
  readonly number: number
}

/** A type as the catalog lists it, the others that it is made of by their oids. */
export interface TypeRow {
  readonly oid: number
  readonly name: string
  readonly schema: string
  readonly extension: string | null
  readonly kind: string
  readonly isSendable: boolean
  readonly delimiter: string
  readonly elementOid: number
  readonly baseOid: number
  readonly baseTypmod: number
  readonly baseDimensions: number
  readonly partOid: number
  readonly attributes: readonly AttributeRow[]
  readonly labels?: readonly EnumLabel[] | null
}

export interface AttributeRow {
  readonly name: string
  readonly number: number
  readonly typeOid: number
  readonly typmod: number
  readonly dimensions: number
}

/** Deeper than any type is that somebody made by hand: what follows a type goes as deep. */
const MAX_DEPTH = 100
/** So many fields of all columns, and of what they are made of, no reader knows what to do with. */
const MAX_PARTS = 20_000

/**
 * Joins rows to types. The returned function gives a column's type by its object id; it throws `invalid`/`TABLE_UNSUPPORTED` for one that contains itself, which Postgres lets
 * no type do, or that the rows don't tell all of, and where all that was asked for is made of too many parts.
 */
export function joinTypes(rows: readonly TypeRow[]): (oid: number) => SourceType {
  const byOid = new Map(rows.map((row) => [row.oid, row]))
  const joined = new Map<number, { readonly type: SourceType; readonly depth: number; readonly parts: number }>()
  const open = new Set<number>()
  const join = (oid: number): SourceType => {
    const known = joined.get(oid)
    if (known !== undefined) return known.type
    const row = byOid.get(oid)
    if (row === undefined) refuseType(`type ${oid} is not described`)
    if (open.has(oid)) refuseType(`type ${row.schema}.${row.name} contains itself`)
    if (open.size > MAX_DEPTH) refuseType(`type ${row.schema}.${row.name} lies too deep in others`)
    open.add(oid)
    const { name, schema, extension, kind, isSendable, delimiter } = row
    const type: SourceType = {
      oid,
      name,
      schema,
      extension,
      kind,
      isSendable,
      delimiter,
      element: row.elementOid === 0 ? null : join(row.elementOid),
      base: row.baseOid === 0 ? null : { type: join(row.baseOid), typmod: row.baseTypmod, dimensions: row.baseDimensions },
      part: row.partOid === 0 ? null : join(row.partOid),
      attributes: row.attributes.map(({ typeOid, ...attribute }) => ({ ...attribute, type: join(typeOid) })),
      labels: row.labels ?? [],
    }
    open.delete(oid)
    const inner = partsOf(type).map((part) => joined.get(part.oid)!)
    const depth = 1 + inner.reduce((deepest, part) => Math.max(deepest, part.depth), 0)
    if (depth > MAX_DEPTH) refuseType(`type ${schema}.${name} is made of types too deep in each other`)
    joined.set(oid, { type, depth, parts: inner.reduce((sum, { parts }) => sum + parts, 1) })
    return type
  }
  let parts = 0
  return (oid) => {
    const type = join(oid)
    parts += joined.get(oid)!.parts
    if (parts > MAX_PARTS) refuseType(`its columns are made of more than ${MAX_PARTS} parts, with type ${type.schema}.${type.name}`)
    return type
  }
}

function refuseType(what: string): never {
  throw new MoonlinkError('invalid', 'TABLE_UNSUPPORTED', `the table can't be mirrored: ${what}.`)
}

function partsOf({ attributes, base, element, part }: SourceType): SourceType[] {
  return [element, base?.type ?? null, part, ...attributes.map(({ type }) => type)].filter((type) => type !== null)
}

/** True where Postgres can send every value of the type in binary; one without such a form deep within fails the whole stream. */
export function isWhollySendable(type: SourceType): boolean {
  return type.isSendable && partsOf(type).every(isWhollySendable)
}
