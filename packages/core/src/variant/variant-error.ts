import { MoonlinkError } from '../errors.ts'

const SHOWN_BYTES = 60

/** Text that is no JSON. */
export function malformedJson(source: Uint8Array, at: number, end: number): MoonlinkError {
  return new MoonlinkError('invalid', 'VARIANT_JSON_MALFORMED', `a variant's text is not JSON from here on: ${shown(source, at, end)}`)
}

/** JSON that Variant has no exact form for. `context.problem` is a clause that says why: `it has a number of more than 38 digits`. */
export function unfitJson(problem: string): MoonlinkError {
  return new MoonlinkError('invalid', 'VARIANT_UNFIT', `a JSON value can't be a variant: ${problem}`, { context: { problem } })
}

/** Bytes that are no variant. */
export function malformedVariant(what: string): MoonlinkError {
  return new MoonlinkError('corrupt', 'VARIANT_MALFORMED', `a variant is malformed: ${what}`)
}

function shown(source: Uint8Array, start: number, end: number): string {
  return new TextDecoder().decode(source.subarray(start, Math.min(end, start + SHOWN_BYTES)))
}
