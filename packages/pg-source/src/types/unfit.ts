import type { ColumnBuilder } from '@moonlink/core'
import { BadValueError } from './bad-value.ts'
import type { DecodeValue, ValueDecoder } from './decoder.ts'

/** Counts the values of a column that did not fit, since the process started; a change that is read again counts again. */
export interface UnfitCounter {
  count: number
}

/** A decoder that leaves null where a value does not fit. */
export function nullOnUnfit(decode: DecodeValue, counter: UnfitCounter): DecodeValue {
  return (source, start, end, builder) => {
    try {
      decode(source, start, end, builder)
    } catch (error) {
      if (!(error instanceof BadValueError)) throw error
      // Drops what was appended to the parts of the value.
      builder.truncate(builder.length)
      builder.appendNull()
      counter.count++
    }
  }
}

/**
 * The decoders of a column that keeps the text of what does not fit in a second one: each value goes to one of the two, and null to
 * the other. `beside` is the second column's builder, to be set whenever the first one's changes.
 */
export class TextBeside implements ValueDecoder {
  beside: ColumnBuilder | null = null
  readonly binary: DecodeValue
  readonly text: DecodeValue

  constructor(native: ValueDecoder, asText: ValueDecoder, counter: UnfitCounter) {
    this.binary = this.either(native.binary, asText.binary, counter)
    this.text = this.either(native.text, asText.text, counter)
  }

  private either(native: DecodeValue, asText: DecodeValue, counter: UnfitCounter): DecodeValue {
    return (source, start, end, builder) => {
      const beside = this.beside!
      try {
        native(source, start, end, builder)
        beside.appendNull()
      } catch (error) {
        if (!(error instanceof BadValueError)) throw error
        builder.truncate(builder.length)
        asText(source, start, end, beside)
        builder.appendNull()
        counter.count++
      }
    }
  }
}
