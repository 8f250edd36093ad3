import type { DecodeValue } from './decoder.ts'
import { TextSink } from './text-sink.ts'

/**
 * Writes the value whose binary form (the type's send function) is `source[start … end)` as the text that the type's output function
 * prints under our session settings (ISO dates in UTC, `intervalstyle=postgres`, `bytea_output=hex`, `extra_float_digits=3`). Throws
 * `corrupt`/`VALUE_MALFORMED` for bytes that Postgres cannot have sent.
 */
export type RenderText = (source: Uint8Array, start: number, end: number, sink: TextSink) => void

const sink = new TextSink()

/** Decodes a binary value as its text. */
export function renderedText(render: RenderText): DecodeValue {
  return (source, start, end, builder) => {
    sink.clear()
    render(source, start, end, sink)
    builder.appendBytes(sink.bytes, 0, sink.length)
  }
}

/** Bytes that are their own text. */
export function renderRaw(source: Uint8Array, start: number, end: number, to: TextSink): void {
  to.copy(source, start, end)
}
