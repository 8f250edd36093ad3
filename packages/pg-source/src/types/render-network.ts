import type { TextSink } from './text-sink.ts'
import { checkSize, malformedValue, uint16At } from './wire.ts'

/** Renderers (see `RenderText`) of network addresses. */

const FAMILY_V4 = 2
const FAMILY_V6 = 3
const words = new Uint16Array(8)

/** inet and cidr. A prefix of full length is printed for cidr only. */
export function renderInet(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  if (end - start < 4 || end - start !== 4 + source[start + 3]) malformedValue('inet', `${end - start} bytes`)
  const bits = source[start + 1]
  const isCidr = source[start + 2] !== 0
  const size = end - start - 4
  if (source[start] === FAMILY_V4 && size === 4) renderV4(source, start + 4, sink)
  else if (source[start] === FAMILY_V6 && size === 16) renderV6(source, start + 4, sink)
  else malformedValue('inet', `family ${source[start]} of ${size} bytes`)
  if (!isCidr && bits === size * 8) return
  sink.byte(0x2f)
  sink.integer(bits)
}

function renderV4(source: Uint8Array, at: number, sink: TextSink): void {
  for (let index = 0; index < 4; index++) {
    if (index > 0) sink.byte(0x2e)
    sink.integer(source[at + index])
  }
}

/** The first longest run of two or more zero words becomes `::`. Addresses that stand for version 4 end in its notation. */
function renderV6(source: Uint8Array, at: number, sink: TextSink): void {
  for (let index = 0; index < 8; index++) words[index] = uint16At(source, at + 2 * index)
  const { first, length } = longestZeros()
  const endsInV4 = first === 0 && (length === 6 || (length === 7 && words[7] !== 1) || (length === 5 && words[5] === 0xffff))
  for (let index = 0; index < 8; index++) {
    if (index >= first && index < first + length) {
      if (index === first) sink.byte(0x3a)
      continue
    }
    if (index > 0) sink.byte(0x3a)
    if (index === 6 && endsInV4) return renderV4(source, at + 12, sink)
    sink.ascii(words[index].toString(16))
  }
  if (first >= 0 && first + length === 8) sink.byte(0x3a)
}

function longestZeros(): { readonly first: number; readonly length: number } {
  let best = { first: -1, length: 0 }
  for (let index = 0; index < 8; index++) {
    const first = index
    while (index < 8 && words[index] === 0) index++
    if (index - first >= 2 && index - first > best.length) best = { first, length: index - first }
  }
  return best
}

/** macaddr (6 bytes) and macaddr8. */
export function renderMac(size: 6 | 8) {
  return (source: Uint8Array, start: number, end: number, sink: TextSink): void => {
    checkSize(start, end, size, 'macaddr')
    for (let at = start; at < end; at++) {
      if (at > start) sink.byte(0x3a)
      sink.hex(source[at])
    }
  }
}
