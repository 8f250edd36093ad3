import { malformedValue, int16At, uint16At } from './wire.ts'
import type { TextSink } from './text-sink.ts'

const NEGATIVE = 0x4000
const SPECIAL: ReadonlyMap<number, string> = new Map([
  [0xc000, 'NaN'],
  [0xd000, 'Infinity'],
  [0xf000, '-Infinity'],
])

/** numeric with as many fraction digits as the value was written with (its display scale). */
export function renderNumeric(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  if (end - start < 8) malformedValue('numeric', 'too short')
  const count = uint16At(source, start)
  const weight = int16At(source, start + 2)
  const sign = uint16At(source, start + 4)
  const scale = uint16At(source, start + 6)
  if (end - start !== 8 + 2 * count) malformedValue('numeric', `${count} digit groups in ${end - start} bytes`)
  const special = SPECIAL.get(sign)
  if (special !== undefined) return sink.ascii(special)
  if (sign !== 0 && sign !== NEGATIVE) malformedValue('numeric', `the sign ${sign}`)
  if (sign === NEGATIVE) sink.byte(0x2d)
  const groupAt = (position: number): number => {
    const index = weight - position
    const group = index < 0 || index >= count ? 0 : uint16At(source, start + 8 + 2 * index)
    if (group > 9999) malformedValue('numeric', `the digit group ${group}`)
    return group
  }
  sink.reserve(4 * (Math.max(weight, 0) + 1) + scale + 2)
  if (weight < 0) sink.byte(0x30)
  for (let position = weight; position >= 0; position--) sink.integer(groupAt(position), position === weight ? 1 : 4)
  if (scale === 0) return
  sink.byte(0x2e)
  const stop = sink.length + scale
  for (let position = -1; sink.length < stop; position--) sink.integer(groupAt(position), 4)
  sink.length = stop
}
