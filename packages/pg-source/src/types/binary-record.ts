import type { ColumnBuilder } from '@moonlink/core'
import type { DecodeValue } from './decoder.ts'
import { quoteFrom, recordQuoting } from './quoting.ts'
import type { RenderText } from './render.ts'
import { TypeChangedError } from './type-changed.ts'
import { int32At, malformedValue } from './wire.ts'

/** The binary form of composites: the number of attributes; for each its type, size and value. */

export interface BinaryAttribute {
  readonly typeOid: number
  readonly decode: DecodeValue
}

/** A composite as a struct of its attributes. Throws `TypeChangedError` where the value has others. */
export function binaryStruct(typeName: string, attributes: readonly BinaryAttribute[]): DecodeValue {
  return (source, start, end, builder) => {
    let at = checkCount(source, start, end, typeName, attributes.length)
    for (let index = 0; index < attributes.length; index++) {
      const size = attributeSize(source, at, end, typeName, attributes[index].typeOid)
      const child: ColumnBuilder = builder.children[index]
      at += 8
      if (size < 0) child.appendNull()
      else attributes[index].decode(source, at, at + size, child)
      at += Math.max(size, 0)
    }
    if (at !== end) malformedValue('record', `${end - at} bytes too many`)
    builder.appendStructEnd()
  }
}

/** A composite as `record_out` prints it: `(1,"a b",)`. */
export function renderRecord(
  typeName: string,
  attributes: readonly { readonly typeOid: number; readonly render: RenderText }[],
): RenderText {
  return (source, start, end, sink) => {
    let at = checkCount(source, start, end, typeName, attributes.length)
    sink.byte(0x28)
    for (let index = 0; index < attributes.length; index++) {
      if (index > 0) sink.byte(0x2c)
      const size = attributeSize(source, at, end, typeName, attributes[index].typeOid)
      at += 8
      if (size < 0) continue
      const first = sink.length
      attributes[index].render(source, at, at + size, sink)
      quoteFrom(sink, first, recordQuoting)
      at += size
    }
    if (at !== end) malformedValue('record', `${end - at} bytes too many`)
    sink.byte(0x29)
  }
}

function checkCount(source: Uint8Array, start: number, end: number, typeName: string, expected: number): number {
  if (end - start < 4) malformedValue('record', 'too short')
  const count = int32At(source, start)
  if (count !== expected) throw new TypeChangedError(typeName, `it has ${count} attributes now, and had ${expected}`)
  return start + 4
}

function attributeSize(source: Uint8Array, at: number, end: number, typeName: string, typeOid: number): number {
  if (end - at < 8) malformedValue('record', 'cut off')
  if (int32At(source, at) >>> 0 !== typeOid) throw new TypeChangedError(typeName, 'an attribute has another type now')
  const size = int32At(source, at + 4)
  if (size < -1 || size > end - at - 8) malformedValue('record', `an attribute of ${size} bytes`)
  return size
}
