import { formatTableName, formatType, MoonlinkError, type Field, type FieldType, type TableName } from '@moonlink/core'
import { binaryList, type ListShape } from './binary-array.ts'
import * as binary from './binary.ts'
import { binaryStruct } from './binary-record.ts'
import { binaryTextOf } from './binary-text.ts'
import { binaryNumeric, textNumeric } from './decimal.ts'
import type { DecodeValue, ValueDecoder } from './decoder.ts'
import { FieldIds, type ColumnFieldIds } from './field-ids.ts'
import { numericTypmod, Oid } from './oids.ts'
import { scalarType, vectorTypes, type ServerTypes } from './scalar-types.ts'
import type { SourceType, TypeUse } from './source-type.ts'
import { parseTarget, unwrittenTypes, type TargetType } from './target-type.ts'
import { textList, textVectorList } from './text-array.ts'
import { textStruct } from './text-record.ts'
import { textInt2, textOid } from './text.ts'
import { defaultPolicy, ruleOf, type OnUnfit, type TypePolicy, type TypeRule } from './type-rules.ts'
import { nullOnUnfit, type UnfitCounter } from './unfit.ts'
import { ofUtf8 } from './utf8.ts'

/** A column as the catalog describes it. */
export interface SourceColumn extends TypeUse {
  readonly name: string
  /** `attnum`, which the Iceberg field ids follow. */
  readonly number: number
  /** `format_type(atttypid, atttypmod)`, for messages. */
  readonly typeName: string
  /** Whether the source can hold no null there. */
  readonly required: boolean
  /** Whether the column is part of what names a row. */
  readonly isKey: boolean
}

export interface MappingOptions {
  readonly policy: TypePolicy
  readonly server: ServerTypes
  /** Keeps the counters of values that do not fit, by `schema.table.column`; without it every mapping has its own. */
  readonly counters?: Map<string, UnfitCounter>
}

/** What a server without peculiarities is like. */
export const defaultMapping: MappingOptions = { policy: defaultPolicy, server: { moneyScale: 2, hasPaddedLsn: false, hasAnyBytes: false } }

/** A column of the source with the fields that mirror it and what turns one into the other. */
export interface MappedColumn {
  readonly name: string
  readonly typeOid: number
  readonly typmod: number
  readonly type: SourceType
  readonly field: Field
  /** Holds the text of values that do not fit `field`, where the policy says so. */
  readonly textField: Field | null
  readonly decoder: ValueDecoder
  /** Decodes values as their text, for `textField`. */
  readonly textDecoder: ValueDecoder
  /** What to ask for in a COPY: text where the binary form is not known, or Postgres has none. */
  readonly copyForm: 'binary' | 'text'
  /** The form that a stream must have for this column: text where the binary form is not known, binary where the text does not tell the value. */
  readonly streamForm: 'binary' | 'text' | 'any'
  /** Null where every value fits, or one that does not stops the table. */
  readonly unfit: { readonly action: 'null' | 'text'; readonly counter: UnfitCounter } | null
  readonly dropsLowerBounds: boolean
}

/** How a type or a part of one is mirrored. */
interface Node {
  readonly type: FieldType
  readonly binary: DecodeValue | null
  readonly text: DecodeValue | null
  /** A value of it, or of a part of it, may not fit. */
  readonly mayNotFit: boolean
}

const MAX_PRECISION = 38
/** `MAXDIM` (src/include/utils/array.h): no value has more dimensions, whatever a column was declared with. */
const MAX_DIMENSIONS = 6
const ONLY_TEXT = new Set(['r', 'm', 'p'])

/**
 * Maps one column. Throws `invalid`/`TABLE_UNSUPPORTED`, naming the table, the column, its type and the way on, where it can't be mirrored as
 * it is or as a rule asks.
 */
export function mapColumn(
  table: TableName,
  column: SourceColumn,
  options: MappingOptions = defaultMapping,
  ids: ColumnFieldIds = new FieldIds().of(column.number),
): MappedColumn {
  return new ColumnMapper(table, column, options, ids).map()
}

class ColumnMapper {
  private readonly table: TableName
  private readonly column: SourceColumn
  private readonly options: MappingOptions
  private readonly rule: TypeRule
  /** What becomes of values that do not fit, of the column and of what it is made of. */
  private readonly actions = new Set<OnUnfit>()
  private readonly ids: ColumnFieldIds
  private readonly counter: UnfitCounter

  constructor(table: TableName, column: SourceColumn, options: MappingOptions, ids: ColumnFieldIds) {
    this.table = table
    this.column = column
    this.options = options
    this.rule = options.policy.columns[formatTableName(table)]?.[column.name] ?? {}
    this.checkKey()
    this.ids = ids
    this.counter = counterOf(options, `${formatTableName(table)}.${column.name}`)
  }

  map(): MappedColumn {
    const { column, ids, counter } = this
    const target = this.rule.as === undefined ? null : this.parse(this.rule.as)
    const node = this.node(column, target, '', this.options.policy.onUnfit)
    const asText = binaryTextOf(column.type, this.options.server)
    if (node.binary === null && node.text === null) {
      this.refuse('holds parts that can be read in binary only, and others as text only', this.asString())
    }
    // Text is kept of the whole column, whichever part does not fit.
    const action = (['text', 'null'] as const).find((one) => this.actions.has(one)) ?? null
    const isNullable = action === 'text' || (node.mayNotFit && this.onUnfit(column.type, this.options.policy.onUnfit) === 'null')
    const { name, required, typmod } = column
    if (action === 'text' && asText === null && node.text === null) {
      this.refuse('its text can be had from a stream of text only, which does not tell all of its value', this.asString())
    }
    const textField: Field | null =
      action === 'text' ? { id: ids.text(), name: `${name}_text`, type: { kind: 'string' }, required: false } : null
    return {
      name,
      typeOid: column.type.oid,
      typmod,
      type: column.type,
      field: { id: ids.column, name, type: node.type, required: required && !isNullable },
      textField,
      decoder: { binary: node.binary ?? unknownBinary, text: node.text ?? unknownText },
      textDecoder: { binary: asText ?? unknownBinary, text: this.plainText },
      copyForm: node.binary === null || (textField !== null && asText === null) ? 'text' : 'binary',
      streamForm: this.streamForm(node, textField === null || asText !== null),
      unfit: action === null ? null : { action, counter },
      dropsLowerBounds: this.dropsLowerBounds(column.type),
    }
  }

  /** Without a binary form of its own, Postgres sends a value as text in any stream; without one deep within, it fails. */
  private streamForm(node: Node, isTextKnown: boolean): MappedColumn['streamForm'] {
    const { column } = this
    if ((node.binary === null || !isTextKnown) && column.type.isSendable) return 'text'
    return node.text === null ? 'binary' : 'any'
  }

  /** A key names its row, so it has to be exact. */
  private checkKey(): void {
    const { onUnfit = 'error' } = this.rule
    if (!this.column.isKey || onUnfit === 'error') return
    this.refuse(
      `is part of the key, which names its row, so onUnfit can only be error`,
      `Take onUnfit out of source.columns, or map it as string.`,
    )
  }

  /** Of a type that the column has, or is made of: what its own rule says, or else that of what it is part of. */
  private onUnfit(type: SourceType, outer: OnUnfit): OnUnfit {
    return this.column.isKey ? 'error' : (this.rule.onUnfit ?? this.ruleOf(type).onUnfit ?? outer)
  }

  /** The rule of a type; of a domain without one, that of what it is based on. */
  private ruleOf(type: SourceType): TypeRule {
    const { types } = this.options.policy
    const rule = ruleOf(types, type)
    return type.base === null ? rule : { ...this.ruleOf(type.base.type), ...rule }
  }

  /** One answer for a column, whatever arrays it is made of. */
  private dropsLowerBounds(type: SourceType): boolean {
    return (this.rule.lowerBounds ?? this.ruleOf(type).lowerBounds) === 'drop'
  }

  /** `path`: where the type lies within the column's; empty for that itself. `outer`: what becomes of values that do not fit, of what it is part of. */
  private node(use: TypeUse, asked: TargetType | null, path: string, outer: OnUnfit): Node {
    const rule = this.ruleOf(use.type)
    const target = asked ?? (rule.as === undefined ? null : this.parse(rule.as))
    const wanted = this.onUnfit(use.type, outer)
    const node = this.nodeOf(resolveDomain(use), target, path, wanted)
    if (!node.mayNotFit) return node
    // Bytes that are no text have no place in a column of text either.
    const onUnfit = wanted === 'text' && node.type.kind === 'string' ? 'error' : wanted
    this.actions.add(onUnfit)
    if (onUnfit !== 'null') return node
    const guard = (decode: DecodeValue | null) => decode && nullOnUnfit(decode, this.counter)
    return { ...node, binary: guard(node.binary), text: guard(node.text) }
  }

  private nodeOf(use: TypeUse, target: TargetType | null, path: string, onUnfit: OnUnfit): Node {
    const { type } = use
    if (target?.kind === 'string') return this.textNode(type)
    if (type.element !== null) return this.listNode(use, type.element, target, path, onUnfit)
    if (type.kind === 'c' && type.attributes.length > 0) return this.structNode(type, target, path, onUnfit)
    if (ONLY_TEXT.has(type.kind) || type.kind === 'c') return target === null ? this.textNode(type) : this.refuseTarget(target, ['string'])
    if (type.oid === Oid.numeric) return this.numericNode(use, target)
    if (type.oid === Oid.int2vector) return this.plainList(target, { kind: 'int' }, binary.binaryInt2, textInt2, Oid.int2, path)
    if (type.oid === Oid.oidvector) return this.plainList(target, { kind: 'long' }, binary.binaryOid, textOid, Oid.oid, path)
    return this.vectorNode(type, target, path) ?? this.scalarNode(type, target)
  }

  private scalarNode(type: SourceType, target: TargetType | null): Node {
    const { native, others } = scalarType(type, this.options.server)
    if (target === null && native === null) return this.textNode(type)
    const holding = target === null || native?.type.kind === target.kind ? native : others[target.kind]
    if (holding === undefined || holding === null || (target?.kind === 'decimal' && formatType(target) !== formatType(holding.type))) {
      return this.refuseTarget(target!, [...(native ? [formatType(native.type)] : []), ...Object.keys(others), 'string'])
    }
    // JSON is read as text.
    const guard = <T extends DecodeValue | null>(decode: T) => (decode && holding.type.kind === 'variant' ? this.guarded(decode) : decode)
    return { type: holding.type, binary: guard(holding.binary), text: guard(holding.text), mayNotFit: holding.mayNotFit === true }
  }

  private textNode(type: SourceType): Node {
    const { server } = this.options
    return { type: { kind: 'string' }, binary: binaryTextOf(type, server), text: this.plainText, mayNotFit: server.hasAnyBytes }
  }

  private get plainText(): DecodeValue {
    return this.guarded(binary.rawBytes)
  }

  /** Of what Postgres sends as text. */
  private guarded(decode: DecodeValue): DecodeValue {
    return this.options.server.hasAnyBytes ? ofUtf8(decode) : decode
  }

  /** Postgres 15 allows a negative scale, and one above the precision; Iceberg neither, but a wider decimal holds the same values. */
  private numericNode(use: TypeUse, target: TargetType | null): Node {
    const declared = use.typmod < 0 ? null : numericTypmod(use.typmod)
    const precision = declared && (declared.scale < 0 ? declared.precision - declared.scale : Math.max(declared.precision, declared.scale))
    if (target !== null && target.kind !== 'decimal') return this.refuseTarget(target, ['string', 'decimal(38,s)'])
    if (target === null && (declared === null || precision! > MAX_PRECISION)) return this.textNode(use.type)
    const type = target ?? { kind: 'decimal' as const, precision: precision!, scale: Math.max(0, declared!.scale) }
    return {
      type,
      binary: binaryNumeric(type.precision, type.scale),
      text: textNumeric(type.precision, type.scale),
      mayNotFit: true,
    }
  }

  /** As many lists within each other as the column was declared with dimensions, or as a rule says. */
  private listNode(use: TypeUse, elementType: SourceType, target: TargetType | null, path: string, onUnfit: OnUnfit): Node {
    if (target !== null && target.kind !== 'list') return this.refuseTarget(target, ['list', 'list<list>', 'string'])
    let depth = target === null ? Math.min(Math.max(1, use.dimensions), MAX_DIMENSIONS) : 1
    let asked: TargetType | null = target?.element ?? null
    // Lists of a rule beyond those of the element's own type are dimensions.
    for (; asked?.kind === 'list' && !isList(elementType); asked = asked.element) depth++
    const paths = Array.from({ length: depth }, (_, level) => `${path}${'[]'.repeat(level + 1)}`)
    const elementIds = paths.map((element) => this.elementId(element))
    const element = this.node({ type: elementType, typmod: use.typmod, dimensions: 0 }, asked, paths[depth - 1], onUnfit)
    const shape: ListShape = { depth, dropsLowerBounds: this.dropsLowerBounds(this.column.type) }
    return {
      type: elementIds.reduceRight<FieldType>(
        (type, elementId) => ({ kind: 'list', elementId, element: type, elementRequired: false }),
        element.type,
      ),
      binary: element.binary && binaryList(elementType.oid, element.binary, shape),
      text: element.text && textList(element.text, shape, elementType.delimiter),
      mayNotFit: true,
    }
  }

  /** int2vector and oidvector, which have one dimension and count from 0, always. */
  private plainList(
    target: TargetType | null,
    element: FieldType,
    binaryElement: DecodeValue,
    textElement: DecodeValue,
    elementOid: number,
    path: string,
  ): Node {
    if (target !== null && (target.kind !== 'list' || target.element !== null)) return this.refuseTarget(target, ['list', 'string'])
    return {
      type: { kind: 'list', elementId: this.elementId(`${path}[]`), element, elementRequired: false },
      binary: binaryList(elementOid, binaryElement, { depth: 1, dropsLowerBounds: true }),
      text: textVectorList(textElement),
      mayNotFit: false,
    }
  }

  private vectorNode(type: SourceType, target: TargetType | null, path: string): Node | null {
    const vector = vectorTypes[`${type.extension}.${type.name}`]
    if (vector === undefined) return null
    if (target !== null && (target.kind !== 'list' || target.element !== null)) return this.refuseTarget(target, ['list', 'string'])
    const elementId = this.elementId(`${path}[]`)
    return {
      type: { kind: 'list', elementId, element: { kind: 'float' }, elementRequired: false },
      binary: vector.binary,
      text: vector.text,
      mayNotFit: false,
    }
  }

  private structNode(type: SourceType, target: TargetType | null, path: string, onUnfit: OnUnfit): Node {
    if (target !== null && target.kind !== 'struct') return this.refuseTarget(target, ['struct', 'string'])
    const names = new Set(type.attributes.map(({ name }) => name.toLowerCase()))
    if (names.size < type.attributes.length) {
      this.refuse(`holds type ${type.name}, whose attributes differ only by case, which readers do not tell apart`, this.asString())
    }
    const parts = type.attributes.map((attribute) => {
      const place = `${path}.${attribute.number}`
      const id = this.ids.nested(place)
      return { attribute, id, node: this.node(attribute, null, place, onUnfit) }
    })
    const fields = parts.map(({ attribute, id, node }): Field => ({ id, name: attribute.name, type: node.type, required: false }))
    const binaries = parts.flatMap(({ attribute, node }) => (node.binary ? [{ typeOid: attribute.type.oid, decode: node.binary }] : []))
    const texts = parts.flatMap(({ node }) => (node.text ? [node.text] : []))
    const name = `${type.schema}.${type.name}`
    return {
      type: { kind: 'struct', fields },
      binary: binaries.length < parts.length ? null : binaryStruct(name, binaries),
      text: texts.length < parts.length ? null : textStruct(name, texts),
      mayNotFit: parts.some(({ node }) => node.mayNotFit),
    }
  }

  private elementId(path: string): number {
    return path === '[]' ? this.ids.element() : this.ids.nested(path)
  }

  private parse(text: string): TargetType {
    const target = parseTarget(text)
    if (target !== null) return target
    return this.refuse(`can't be mirrored as ${text}: ${unwrittenTypes[text.trim()] ?? 'there is no such type'}`, 'Correct its rule.')
  }

  private refuseTarget(target: TargetType, possible: readonly string[]): never {
    this.refuse(`can't be mirrored as ${formatTarget(target)}`, `Possible: ${[...new Set(possible)].join(', ')}.`)
  }

  private asString(): string {
    const { table, column } = this
    return `Map it as text with source.columns: {${formatTableName(table)}: {${column.name}: string}}, or leave it out with source.excludeColumns: {${formatTableName(table)}: [${column.name}]}.`
  }

  private refuse(why: string, remedy: string): never {
    const { table, column } = this
    const name = formatTableName(table)
    throw new MoonlinkError(
      'invalid',
      'TABLE_UNSUPPORTED',
      `${name}: column "${column.name}" has type ${column.typeName}, and ${why}. ${remedy}`,
      {
        context: { table: name, column: column.name, type: column.typeName },
      },
    )
  }
}

function counterOf({ counters }: MappingOptions, name: string): UnfitCounter {
  const known = counters?.get(name) ?? { count: 0 }
  counters?.set(name, known)
  return known
}

/** A domain is what it is based on; the innermost typmod and dimensions that are given count. */
function resolveDomain(use: TypeUse): TypeUse {
  const { base } = use.type
  if (base === null) return use
  return resolveDomain({
    type: base.type,
    typmod: use.typmod >= 0 ? use.typmod : base.typmod,
    dimensions: use.dimensions > 0 ? use.dimensions : base.dimensions,
  })
}

function isList(type: SourceType): boolean {
  return resolveDomain({ type, typmod: -1, dimensions: 0 }).type.element !== null
}

function formatTarget(target: TargetType): string {
  if (target.kind === 'list') return target.element ? `list<${formatTarget(target.element)}>` : 'list'
  return target.kind === 'struct' ? 'struct' : formatType(target)
}

function unknownBinary(): never {
  throw new MoonlinkError('bug', 'VALUE_FORM', 'a value came in binary although its column asks for text')
}

function unknownText(): never {
  throw new MoonlinkError('bug', 'VALUE_FORM', 'a value came as text although its column asks for the binary form')
}
