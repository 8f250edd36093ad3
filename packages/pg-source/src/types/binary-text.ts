import { renderArray, renderVector } from './binary-array.ts'
import { renderRecord } from './binary-record.ts'
import type { DecodeValue } from './decoder.ts'
import { Oid } from './oids.ts'
import { renderedText, type RenderText } from './render.ts'
import { renderMultirange, renderRange } from './render-range.ts'
import { renderInt2, renderUint4 } from './render-scalar.ts'
import { scalarType, vectorTypes, type ServerTypes } from './scalar-types.ts'
import type { SourceType } from './source-type.ts'
import { toUtf8 } from './utf8.ts'

/** Decodes the binary form of a type as the text that Postgres prints for it; null where that form is not known. */
export function binaryTextOf(type: SourceType, server: ServerTypes): DecodeValue | null {
  const render = renderOf(type, server)
  if (server.hasAnyBytes) return render && renderedText(toUtf8(render))
  const scalar = hasParts(type) ? null : scalarType(type, server).binaryText
  if (scalar !== null) return scalar
  return render && renderedText(render)
}

function renderOf(type: SourceType, server: ServerTypes): RenderText | null {
  if (type.base !== null) return renderOf(type.base.type, server)
  if (type.element !== null) {
    const element = renderOf(type.element, server)
    return element && renderArray(type.element.oid, element, type.element.delimiter)
  }
  if (type.kind === 'r' || type.kind === 'm') {
    const part = type.part && renderOf(type.part, server)
    return part && (type.kind === 'r' ? renderRange(part) : renderMultirange(part))
  }
  if (type.kind === 'c') {
    const parts = type.attributes.map((attribute) => ({ typeOid: attribute.type.oid, render: renderOf(attribute.type, server) }))
    const known = parts.flatMap(({ typeOid, render }) => (render ? [{ typeOid, render }] : []))
    return known.length < parts.length ? null : renderRecord(`${type.schema}.${type.name}`, known)
  }
  if (type.oid === Oid.int2vector) return renderVector(Oid.int2, renderInt2)
  if (type.oid === Oid.oidvector) return renderVector(Oid.oid, renderUint4)
  return vectorTypes[`${type.extension}.${type.name}`]?.render ?? scalarType(type, server).render
}

function hasParts(type: SourceType): boolean {
  return type.base !== null || type.element !== null || type.part !== null || type.kind === 'c'
}
