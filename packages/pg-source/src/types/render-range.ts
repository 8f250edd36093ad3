import { quoteFrom, rangeQuoting } from './quoting.ts'
import type { RenderText } from './render.ts'
import type { TextSink } from './text-sink.ts'
import { int32At, malformedValue } from './wire.ts'

const EMPTY = 0x01
const LOWER_INCLUSIVE = 0x02
const UPPER_INCLUSIVE = 0x04
const LOWER_INFINITE = 0x08
const UPPER_INFINITE = 0x10

/** `[1,10)`, `(,5]`, `empty`: a byte of flags, then each finite bound with its size. */
export function renderRange(renderBound: RenderText): RenderText {
  return (source, start, end, sink) => {
    if (end === start) malformedValue('range', 'too short')
    const flags = source[start]
    let at = start + 1
    if (flags & EMPTY) sink.ascii('empty')
    else {
      sink.byte(flags & LOWER_INCLUSIVE ? 0x5b : 0x28)
      if (!(flags & LOWER_INFINITE)) at = renderOne(source, at, end, sink, renderBound)
      sink.byte(0x2c)
      if (!(flags & UPPER_INFINITE)) at = renderOne(source, at, end, sink, renderBound)
      sink.byte(flags & UPPER_INCLUSIVE ? 0x5d : 0x29)
    }
    if (at !== end) malformedValue('range', `${end - at} bytes too many`)
  }
}

function renderOne(source: Uint8Array, at: number, end: number, sink: TextSink, renderBound: RenderText): number {
  const size = end - at < 4 ? -1 : int32At(source, at)
  if (size < 0 || size > end - at - 4) malformedValue('range', `a bound of ${size} bytes`)
  const first = sink.length
  renderBound(source, at + 4, at + 4 + size, sink)
  quoteFrom(sink, first, rangeQuoting)
  return at + 4 + size
}

/** `{[1,3),[7,9)}`: the number of ranges, then each with its size. */
export function renderMultirange(renderElement: RenderText): RenderText {
  return (source, start, end, sink) => {
    const count = end - start < 4 ? -1 : int32At(source, start)
    if (count < 0) malformedValue('multirange', 'too short')
    let at = start + 4
    sink.byte(0x7b)
    for (let index = 0; index < count; index++) {
      const size = end - at < 4 ? -1 : int32At(source, at)
      if (size < 0 || size > end - at - 4) malformedValue('multirange', `a range of ${size} bytes`)
      if (index > 0) sink.byte(0x2c)
      renderElement(source, at + 4, at + 4 + size, sink)
      at += 4 + size
    }
    if (at !== end) malformedValue('multirange', `${end - at} bytes too many`)
    sink.byte(0x7d)
  }
}
