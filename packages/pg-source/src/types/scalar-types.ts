import type { FieldType, PrimitiveType } from '@moonlink/core'
import * as binary from './binary.ts'
import * as datetime from './datetime.ts'
import type { DecodeValue } from './decoder.ts'
import { binaryMoney, binaryUint8, textMoney, textNumeric } from './decimal.ts'
import * as extension from './extension-types.ts'
import * as json from './json-variant.ts'
import { Oid } from './oids.ts'
import { renderedText, renderRaw, type RenderText } from './render.ts'
import * as dates from './render-datetime.ts'
import { renderFloat4, renderFloat8 } from './render-float.ts'
import * as geometry from './render-geometry.ts'
import { renderInet, renderMac } from './render-network.ts'
import { renderNumeric } from './render-numeric.ts'
import * as scalar from './render-scalar.ts'
import { renderTsquery, renderTsvector } from './render-search.ts'
import type { SourceType } from './source-type.ts'
import * as text from './text.ts'

/** One way to hold a type that has no parts. */
export interface Holding {
  readonly type: FieldType
  readonly binary: DecodeValue
  /** Null where the text form does not tell the value. */
  readonly text: DecodeValue | null
  /** Some values of the type do not fit. */
  readonly mayNotFit?: true
}

/** A type that has no parts. */
export interface ScalarType {
  /** Holds it by default; null: as text. */
  readonly native: Holding | null
  /** Other ways, by the kind of their Iceberg type. */
  readonly others: Readonly<Record<string, Holding>>
  /** From the binary form to the text; null where that is not known here, and Postgres has to be asked for text. */
  readonly render: RenderText | null
  /** Appends the binary form as text; null where `render` is. */
  readonly binaryText: DecodeValue | null
}

/** What depends on the server. */
export interface ServerTypes {
  /** Digits after the point of money, as `lc_monetary` has them. */
  readonly moneyScale: number
  /** pg_lsn is printed with eight digits behind the slash (Postgres 19). */
  readonly hasPaddedLsn: boolean
  /** The database has no encoding (SQL_ASCII): its texts may be any bytes. */
  readonly hasAnyBytes: boolean
}

const holding = (type: PrimitiveType, binaryForm: DecodeValue, textForm: DecodeValue | null): Holding => ({
  type,
  binary: binaryForm,
  text: textForm,
})
const limited = (type: PrimitiveType, binaryForm: DecodeValue, textForm: DecodeValue): Holding => ({
  ...holding(type, binaryForm, textForm),
  mayNotFit: true,
})

/** `native`, or text by default. */
function scalarOf(render: RenderText | null, native: Holding | null = null, others: ScalarType['others'] = {}): ScalarType {
  return { native, others, render, binaryText: render && renderedText(render) }
}

const plainText: ScalarType = { ...scalarOf(renderRaw), binaryText: binary.rawBytes }
const versionedText: ScalarType = { ...scalarOf(scalar.renderVersioned), binaryText: binary.binaryVersioned }
const oid = scalarOf(scalar.renderUint4, holding({ kind: 'long' }, binary.binaryOid, text.textOid))
/** An oid that is printed as the name of what it stands for now; the oid is what is stored. */
const alias = scalarOf(null, holding({ kind: 'long' }, binary.binaryOid, null))

const builtIn: ReadonlyMap<number, ScalarType> = new Map<number, ScalarType>([
  [Oid.bool, scalarOf(scalar.renderBool, holding({ kind: 'boolean' }, binary.binaryBool, text.textBool))],
  [Oid.int2, scalarOf(scalar.renderInt2, holding({ kind: 'int' }, binary.binaryInt2, text.textInt2))],
  [Oid.int4, scalarOf(scalar.renderInt4, holding({ kind: 'int' }, binary.binaryInt4, text.textInt4))],
  [Oid.int8, scalarOf(scalar.renderInt8, holding({ kind: 'long' }, binary.binaryInt8, text.textInt8))],
  [Oid.float4, scalarOf(renderFloat4, holding({ kind: 'float' }, binary.binaryFloat4, text.textFloat4))],
  [Oid.float8, scalarOf(renderFloat8, holding({ kind: 'double' }, binary.binaryFloat8, text.textFloat8))],
  [Oid.numeric, scalarOf(renderNumeric)],
  [Oid.oid, oid],
  [Oid.xid, oid],
  [Oid.cid, oid],
  [Oid.xid8, scalarOf(scalar.renderUint8, holding({ kind: 'decimal', precision: 20, scale: 0 }, binaryUint8, textNumeric(20, 0)))],
  ...[
    Oid.regproc,
    Oid.regprocedure,
    Oid.regoper,
    Oid.regoperator,
    Oid.regclass,
    Oid.regtype,
    Oid.regconfig,
    Oid.regdictionary,
    Oid.regnamespace,
    Oid.regrole,
    Oid.regcollation,
  ].map((number): [number, ScalarType] => [number, alias]),
  ...[Oid.text, Oid.varchar, Oid.bpchar, Oid.name, Oid.xml, Oid.refcursor].map((number): [number, ScalarType] => [number, plainText]),
  [Oid.char, scalarOf(scalar.renderChar)],
  [Oid.json, { ...plainText, others: { variant: limited({ kind: 'variant' }, json.jsonVariant, json.jsonVariant) } }],
  [Oid.jsonb, { ...versionedText, others: { variant: limited({ kind: 'variant' }, json.binaryJsonbVariant, json.textJsonbVariant) } }],
  [Oid.jsonpath, versionedText],
  [Oid.bytea, scalarOf(scalar.renderBytea, holding({ kind: 'binary' }, binary.rawBytes, text.textBytea))],
  [Oid.uuid, scalarOf(scalar.renderUuid, holding({ kind: 'uuid' }, binary.binaryUuid, text.textUuid))],
  [Oid.date, scalarOf(dates.renderDate, limited({ kind: 'date' }, datetime.binaryDate, datetime.textDate))],
  [Oid.time, scalarOf(dates.renderTime, null, { time: limited({ kind: 'time' }, datetime.binaryTime, datetime.textTime) })],
  [Oid.timestamp, scalarOf(dates.renderTimestamp(''), limited({ kind: 'timestamp' }, datetime.binaryTimestamp, datetime.textTimestamp))],
  [
    Oid.timestamptz,
    scalarOf(dates.renderTimestamp('+00'), limited({ kind: 'timestamptz' }, datetime.binaryTimestamp, datetime.textTimestamp)),
  ],
  [Oid.timetz, scalarOf(dates.renderTimetz)],
  [Oid.interval, scalarOf(dates.renderInterval)],
  [Oid.bit, scalarOf(scalar.renderBits)],
  [Oid.varbit, scalarOf(scalar.renderBits)],
  [Oid.inet, scalarOf(renderInet)],
  [Oid.cidr, scalarOf(renderInet)],
  [Oid.macaddr, scalarOf(renderMac(6))],
  [Oid.macaddr8, scalarOf(renderMac(8))],
  [Oid.tid, scalarOf(scalar.renderTid)],
  [Oid.txid_snapshot, scalarOf(scalar.renderSnapshot)],
  [Oid.pg_snapshot, scalarOf(scalar.renderSnapshot)],
  [Oid.point, scalarOf(geometry.renderPoint)],
  [Oid.lseg, scalarOf(geometry.renderLseg)],
  [Oid.path, scalarOf(geometry.renderPath)],
  [Oid.box, scalarOf(geometry.renderBox)],
  [Oid.polygon, scalarOf(geometry.renderPolygon)],
  [Oid.line, scalarOf(geometry.renderLine)],
  [Oid.circle, scalarOf(geometry.renderCircle)],
  [Oid.tsvector, scalarOf(renderTsvector)],
  [Oid.tsquery, scalarOf(renderTsquery)],
])

const ewkb: ScalarType = scalarOf(extension.renderEwkb, holding({ kind: 'binary' }, binary.rawBytes, extension.textEwkb))

/** Types of extensions, as `extension.type`. */
const brought: Readonly<Record<string, ScalarType>> = {
  'citext.citext': plainText,
  'hstore.hstore': scalarOf(extension.renderHstore),
  'ltree.ltree': versionedText,
  'ltree.lquery': versionedText,
  'ltree.ltxtquery': versionedText,
  'vector.sparsevec': scalarOf(extension.renderSparsevec),
  'postgis.geometry': ewkb,
  'postgis.geography': ewkb,
}

/** pgvector's dense vectors, whose default is a list of floats. */
export const vectorTypes: Readonly<
  Record<string, { readonly binary: DecodeValue; readonly text: DecodeValue; readonly render: RenderText }>
> = {
  'vector.vector': { binary: extension.binaryVector, text: extension.textVector, render: extension.renderVectorText },
  'vector.halfvec': { binary: extension.binaryHalfvec, text: extension.textVector, render: extension.renderHalfvec },
}

/** Every type of an extension whose form is known here, as `extension.type`. */
export const knownExtensionTypes: readonly string[] = [...Object.keys(brought), ...Object.keys(vectorTypes)]

/** How values of a base or enum type are held. A type that nothing here knows is asked of Postgres as text. */
export function scalarType(type: SourceType, server: ServerTypes): ScalarType {
  if (type.kind === 'e') return plainText
  if (type.oid === Oid.money) return money(server.moneyScale)
  if (type.oid === Oid.pg_lsn) return scalarOf(scalar.renderLsn(server.hasPaddedLsn))
  return builtIn.get(type.oid) ?? brought[`${type.extension}.${type.name}`] ?? scalarOf(null)
}

/** Text of money depends on the server's locale, so it is not rendered here. */
function money(scale: number): ScalarType {
  const type: PrimitiveType = { kind: 'decimal', precision: 19, scale }
  return scalarOf(null, holding(type, binaryMoney, textMoney))
}
