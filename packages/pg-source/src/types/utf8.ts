import { isUtf8 } from 'node:buffer'
import { BadValueError, shownText } from './bad-value.ts'
import type { DecodeValue } from './decoder.ts'
import type { RenderText } from './render.ts'

/** A decoder of text that refuses bytes that are no UTF-8, as a database without an encoding (SQL_ASCII) may send. */
export function ofUtf8(decode: DecodeValue): DecodeValue {
  return (source, start, end, builder) => {
    check(source, start, end)
    decode(source, start, end, builder)
  }
}

/** A renderer that refuses the same in what it has rendered. */
export function toUtf8(render: RenderText): RenderText {
  return (source, start, end, to) => {
    const at = to.length
    render(source, start, end, to)
    check(to.bytes, at, to.length)
  }
}

function check(bytes: Uint8Array, start: number, end: number): void {
  if (isUtf8(bytes.subarray(start, end))) return
  throw new BadValueError(shownText(bytes, start, end), 'which is no UTF-8', {}, 'null')
}
