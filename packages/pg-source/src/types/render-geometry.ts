import { renderFloat8 } from './render-float.ts'
import type { TextSink } from './text-sink.ts'
import { checkSize, int32At, malformedValue } from './wire.ts'

/** Renderers (see `RenderText`) of Postgres' own geometric types. */

const POINT_BYTES = 16

/** `(x,y)` */
export function renderPoint(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, POINT_BYTES, 'point')
  points(source, start, 1, sink)
}

/** `[(x,y),(x,y)]` */
export function renderLseg(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 2 * POINT_BYTES, 'lseg')
  sink.byte(0x5b)
  points(source, start, 2, sink)
  sink.byte(0x5d)
}

/** `(x,y),(x,y)` */
export function renderBox(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 2 * POINT_BYTES, 'box')
  points(source, start, 2, sink)
}

/** `((x,y),…)` where closed, `[(x,y),…]` where open. */
export function renderPath(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  const isClosed = source[start] !== 0
  sink.byte(isClosed ? 0x28 : 0x5b)
  countedPoints(source, start + 1, end, sink)
  sink.byte(isClosed ? 0x29 : 0x5d)
}

/** `((x,y),…)` */
export function renderPolygon(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  sink.byte(0x28)
  countedPoints(source, start, end, sink)
  sink.byte(0x29)
}

/** `{A,B,C}` */
export function renderLine(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 24, 'line')
  sink.byte(0x7b)
  for (let at = start; at < end; at += 8) {
    if (at > start) sink.byte(0x2c)
    renderFloat8(source, at, at + 8, sink)
  }
  sink.byte(0x7d)
}

/** `<(x,y),r>` */
export function renderCircle(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  checkSize(start, end, 24, 'circle')
  sink.byte(0x3c)
  points(source, start, 1, sink)
  sink.byte(0x2c)
  renderFloat8(source, start + POINT_BYTES, end, sink)
  sink.byte(0x3e)
}

function countedPoints(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  const count = end - start < 4 ? -1 : int32At(source, start)
  if (end - start !== 4 + count * POINT_BYTES) malformedValue('path', `${count} points in ${end - start} bytes`)
  points(source, start + 4, count, sink)
}

function points(source: Uint8Array, start: number, count: number, sink: TextSink): void {
  for (let index = 0; index < count; index++) {
    const at = start + index * POINT_BYTES
    if (index > 0) sink.byte(0x2c)
    sink.byte(0x28)
    renderFloat8(source, at, at + 8, sink)
    sink.byte(0x2c)
    renderFloat8(source, at + 8, at + POINT_BYTES, sink)
    sink.byte(0x29)
  }
}
