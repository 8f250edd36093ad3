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
  regproc: 24,
  text: 25,
  oid: 26,
  tid: 27,
  xid: 28,
  cid: 29,
  oidvector: 30,
  json: 114,
  xml: 142,
  point: 600,
  lseg: 601,
  path: 602,
  box: 603,
  polygon: 604,
  line: 628,
  cidr: 650,
  float4: 700,
  float8: 701,
  circle: 718,
  macaddr8: 774,
  money: 790,
  macaddr: 829,
  inet: 869,
  bpchar: 1042,
  varchar: 1043,
  date: 1082,
  time: 1083,
  timestamp: 1114,
  timestamptz: 1184,
  interval: 1186,
  timetz: 1266,
  bit: 1560,
  varbit: 1562,
  numeric: 1700,
  refcursor: 1790,
  regprocedure: 2202,
  regoper: 2203,
  regoperator: 2204,
  regclass: 2205,
  regtype: 2206,
  uuid: 2950,
  txid_snapshot: 2970,
  pg_lsn: 3220,
  tsvector: 3614,
  tsquery: 3615,
  regconfig: 3734,
  regdictionary: 3769,
  jsonb: 3802,
  jsonpath: 4072,
  regnamespace: 4089,
  regrole: 4096,
  regcollation: 4191,
  pg_snapshot: 5038,
  xid8: 5069,
} as const

/** Array types whose elements matter to a message. */
const elementOidOf: ReadonlyMap<number, number> = new Map([
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
  [1187, Oid.interval],
  [1231, Oid.numeric],
  [1041, Oid.inet],
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
