/** Object ids of Postgres' built-in types; fixed in every version (pg_type.dat). */
export const Oid = {
  bool: 16,
  bytea: 17,
  char: 18,
  name: 19,
  int8: 20,
  int2: 21,
  int2vector: 22,
  int4: 23,
  text: 25,
  oid: 26,
  oidvector: 30,
  json: 114,
  float4: 700,
  float8: 701,
  bpchar: 1042,
  varchar: 1043,
  date: 1082,
  time: 1083,
  timestamp: 1114,
  timestamptz: 1184,
  numeric: 1700,
  uuid: 2950,
  jsonb: 3802,
} as const

/** Element type of each built-in array type that can be mirrored. */
export const elementOidOf: ReadonlyMap<number, number> = new Map([
  [1000, Oid.bool],
  [1001, Oid.bytea],
  [1002, Oid.char],
  [1003, Oid.name],
  [1016, Oid.int8],
  [1005, Oid.int2],
  [1007, Oid.int4],
  [1009, Oid.text],
  [1028, Oid.oid],
  [199, Oid.json],
  [1021, Oid.float4],
  [1022, Oid.float8],
  [1014, Oid.bpchar],
  [1015, Oid.varchar],
  [1182, Oid.date],
  [1183, Oid.time],
  [1115, Oid.timestamp],
  [1185, Oid.timestamptz],
  [1231, Oid.numeric],
  [2951, Oid.uuid],
  [3807, Oid.jsonb],
])

const names: ReadonlyMap<number, string> = new Map(Object.entries(Oid).map(([name, oid]) => [oid, name]))

/** The type's name for a message where only its oid and typmod are known, as in a Relation message. */
export function describeType(oid: number, typmod: number): string {
  const element = elementOidOf.get(oid)
  if (element !== undefined) return `${describeType(element, typmod)}[]`
  const name = names.get(oid) ?? `with oid ${oid}`
  if (typmod < 0) return name
  if (oid === Oid.numeric) {
    const { precision, scale } = numericTypmod(typmod)
    return `numeric(${precision},${scale})`
  }
  if (oid === Oid.varchar || oid === Oid.bpchar) return `${name}(${typmod - 4})`
  return `${name}(${typmod})`
}

/** Precision and scale of a numeric column's typmod; the scale may be negative, or larger than the precision (Postgres 15). */
export function numericTypmod(typmod: number): { readonly precision: number; readonly scale: number } {
  const packed = typmod - 4
  return { precision: (packed >> 16) & 0xffff, scale: ((packed & 0x7ff) ^ 1024) - 1024 }
}
