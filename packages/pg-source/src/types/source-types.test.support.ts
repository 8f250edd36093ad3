import type { SourceColumn } from './mapping.ts'
import { Oid } from './oids.ts'
import type { SourceType, TypeUse } from './source-type.ts'

const names = new Map(Object.entries(Oid).map(([name, oid]) => [oid as number, name]))
const FIRST_OWN_OID = 16_400

/** A base type of Postgres' own. */
export function builtIn(oid: number): SourceType {
  return ownType({ oid, name: names.get(oid) ?? `type${oid}`, schema: 'pg_catalog' })
}

/** A type of somebody's own. */
export function ownType(type: Partial<SourceType>): SourceType {
  return {
    oid: FIRST_OWN_OID,
    name: 'own',
    schema: 'public',
    extension: null,
    kind: 'b',
    isSendable: true,
    delimiter: ',',
    element: null,
    base: null,
    part: null,
    attributes: [],
    labels: [],
    ...type,
  }
}

export function arrayOf(element: SourceType, oid = 1007): SourceType {
  return ownType({ oid, name: `_${element.name}`, schema: element.schema, element })
}

export function domain(name: string, base: SourceType, more: Partial<TypeUse> = {}): SourceType {
  return ownType({ oid: 16_500, name, kind: 'd', base: use(base, more) })
}

export function composite(name: string, attributes: Readonly<Record<string, SourceType | TypeUse>>): SourceType {
  const parts = Object.entries(attributes).map(([attribute, type], index) => ({
    ...('type' in type ? type : use(type)),
    name: attribute,
    number: index + 1,
  }))
  return ownType({ oid: 16_600, name, kind: 'c', attributes: parts })
}

export function use(type: SourceType, more: Partial<TypeUse> = {}): TypeUse {
  return { type, typmod: -1, dimensions: 0, ...more }
}

export function sourceColumn(type: SourceType, more: Partial<SourceColumn> = {}): SourceColumn {
  return { ...use(type), name: 'c', number: 3, typeName: type.name, required: false, isKey: false, ...more }
}

export function numericTypmodOf(precision: number, scale: number): number {
  return ((precision << 16) | (scale & 0x7ff)) + 4
}
