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

/** Joins rows to types. Postgres lets no type contain itself. */
export function joinTypes(rows: readonly TypeRow[]): (oid: number) => SourceType {
  const byOid = new Map(rows.map((row) => [row.oid, row]))
  const joined = new Map<number, SourceType>()
  const typeOf = (oid: number): SourceType => {
    const known = joined.get(oid)
    if (known !== undefined) return known
    const row = byOid.get(oid)
    if (row === undefined) throw new RangeError(`type ${oid} is not among the rows`)
    const { name, schema, extension, kind, isSendable, delimiter } = row
    const type: SourceType = {
      oid,
      name,
      schema,
      extension,
      kind,
      isSendable,
      delimiter,
      element: row.elementOid === 0 ? null : typeOf(row.elementOid),
      base: row.baseOid === 0 ? null : { type: typeOf(row.baseOid), typmod: row.baseTypmod, dimensions: row.baseDimensions },
      part: row.partOid === 0 ? null : typeOf(row.partOid),
      attributes: row.attributes.map(({ typeOid, ...attribute }) => ({ ...attribute, type: typeOf(typeOid) })),
      labels: row.labels ?? [],
    }
    joined.set(oid, type)
    return type
  }
  return typeOf
}

/** True where Postgres can send every value of the type in binary; one without such a form deep within fails the whole stream. */
export function isWhollySendable(type: SourceType): boolean {
  const parts = [type.element, type.base?.type ?? null, type.part, ...type.attributes.map((attribute) => attribute.type)]
  return type.isSendable && parts.every((part) => part === null || isWhollySendable(part))
}
