import type { DecodeValue } from './decoder.ts'
import { shownText } from './bad-value.ts'
import { TypeChangedError } from './type-changed.ts'
import { malformedValue } from './wire.ts'

const OPEN = 0x28
const CLOSE = 0x29
const COMMA = 0x2c
const QUOTE = 0x22
const BACKSLASH = 0x5c

/** The text form of a composite, `(1,"a ""b""",)`, as a struct of its attributes. Nothing between commas is null. */
export function textStruct(typeName: string, decoders: readonly DecodeValue[]): DecodeValue {
  return (source, start, end, builder) => {
    if (end - start < 2 || source[start] !== OPEN || source[end - 1] !== CLOSE) {
      malformedValue('record', `"${shownText(source, start, end)}"`)
    }
    const last = end - 1
    let at = start + 1
    for (let index = 0; index < decoders.length; index++) {
      const child = builder.children[index]
      const stop = attributeEnd(source, at, last)
      if (stop === at) child.appendNull()
      else {
        const bytes = unquoted(source, at, stop)
        if (bytes === null) decoders[index](source, at, stop, child)
        else decoders[index](bytes, 0, bytes.length, child)
      }
      const isLast = index === decoders.length - 1
      if ((stop === last) !== isLast) throw new TypeChangedError(typeName, `it had ${decoders.length} attributes`)
      at = stop + 1
    }
    builder.appendStructEnd()
  }
}

/** Where the attribute at `start` ends: at a comma outside of quotes, or at the end. */
function attributeEnd(source: Uint8Array, start: number, last: number): number {
  let isQuoted = false
  let at = start
  for (; at < last; at++) {
    const byte = source[at]
    if (byte === BACKSLASH) at++
    else if (byte === QUOTE) isQuoted = !isQuoted
    else if (byte === COMMA && !isQuoted) break
  }
  if (isQuoted || at > last) malformedValue('record', 'a quote is not closed')
  return at
}

/** The attribute without its quotes and escapes; null where it has none. */
function unquoted(source: Uint8Array, start: number, end: number): Uint8Array | null {
  if (source[start] !== QUOTE) return null
  const bytes = new Uint8Array(end - start)
  let size = 0
  for (let at = start + 1; at < end - 1; at++) {
    if (source[at] === BACKSLASH || (source[at] === QUOTE && source[at + 1] === QUOTE)) at++
    bytes[size++] = source[at]
  }
  return bytes.subarray(0, size)
}
