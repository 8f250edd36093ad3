import { ByteSink, isMoonlinkError, jsonbFitsVariant, VariantDecoder, VariantEncoder, type ColumnBuilder } from '@moonlink/core'
import { BadValueError, shownText } from './bad-value.ts'
import { malformedValue } from './wire.ts'

/** Decoders of json and jsonb to variants, whose column holds the text that Postgres prints for the value as jsonb. */

export function binaryJsonbVariant(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  if (end === start || source[start] !== 1) malformedValue('jsonb', 'not version 1')
  textJsonbVariant(source, start + 1, end, builder)
}

/** That text is what Postgres sends, so there is nothing to do but look at its numbers. */
export function textJsonbVariant(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  if (!jsonbFitsVariant(source, start, end)) {
    throw unfit(source, start, end, 'it has a number of more than 38 digits, or of more than 38 behind its point')
  }
  builder.appendBytes(source, start, end)
}

const encoder = new VariantEncoder()
const decoder = new VariantDecoder()
const text = new ByteSink()

/** json is any text, so it goes through the encoding and back. */
export function jsonVariant(source: Uint8Array, start: number, end: number, builder: ColumnBuilder): void {
  const { metadata, values } = encoder
  metadata.length = values.length = text.length = 0
  try {
    encoder.append(source, start, end)
  } catch (error) {
    if (!isMoonlinkError(error, 'invalid')) throw error
    if (error.code !== 'VARIANT_UNFIT') malformedValue('json', error.message)
    throw unfit(source, start, end, String(error.context['problem']))
  }
  decoder.append(metadata.bytes, 0, metadata.length, values.bytes, 0, values.length, text)
  builder.appendBytes(text.bytes, 0, text.length)
}

function unfit(source: Uint8Array, start: number, end: number, problem: string): BadValueError {
  return new BadValueError(shownText(source, start, end), `which a variant cannot hold: ${problem}`)
}
