import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { COPY_SLACK_BYTES, copyShort } from './copy-short.ts'

const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

test('copies the bytes asked for, whatever they are, and touches no more than the slack behind them', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(9), fc.nat(9), (bytes, from, to) => {
      const source = new Uint8Array(from + bytes.length + COPY_SLACK_BYTES).fill(0xee)
      source.set(bytes, from)
      const target = new Uint8Array(to + bytes.length + COPY_SLACK_BYTES).fill(0xaa)
      copyShort(view(target), to, view(source), from, from + bytes.length)
      expect(target.subarray(to, to + bytes.length)).toEqual(bytes)
      expect(target.subarray(0, to).every((byte) => byte === 0xaa)).toBe(true)
    }),
  )
})
