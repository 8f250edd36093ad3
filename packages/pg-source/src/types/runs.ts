import { COPY_SLACK_BYTES, copyShort, SHORT_COPY_BYTES } from '@moonlink/core'
import {
  binaryBool,
  binaryFloat4,
  binaryFloat8,
  binaryInt2,
  binaryInt4,
  binaryInt8,
  binaryUuid,
  binaryVersioned,
  rawBytes,
} from './binary.ts'
import { binaryDate, binaryTimestamp, EPOCH_DAYS, EPOCH_HIGH, EPOCH_LOW } from './datetime.ts'
import type { DecodeRun, DecodeValue } from './decoder.ts'

/**
 * Decoders of many values of one column at once, which a loop of its own makes several times as fast as a call a value. Whatever is not
 * an everyday value ends a run: null, a wrong size, an infinity. The decoder of single values knows what to do with it.
 */

const TWO_32 = 0x1_0000_0000
/** Halves of timestamps within these are far from the ends of what a timestamp can be. */
const EVERYDAY = 0x3fff_ffff

const runs = new WeakMap<DecodeValue, DecodeRun>()

/** Makes `run` the one that `runOf(decode)` returns. */
export function registerRun(decode: DecodeValue, run: DecodeRun): void {
  runs.set(decode, run)
}

/** A decoder of runs of what `decode` decodes one by one. */
export function runOf(decode: DecodeValue): DecodeRun {
  return (
    runs.get(decode) ??
    ((source, cells, at, count, builder) => {
      let done = 0
      for (; done < count && cells[at + 2 * done + 1] >= 0; done++) decode(source, cells[at + 2 * done], cells[at + 2 * done + 1], builder)
      return done
    })
  )
}

const runInt2: DecodeRun = (source, cells, at, count, builder) => {
  const view = viewOf(source)
  const { row, words } = builder.openRun(count)
  let done = 0
  for (let cell = at; done < count; done++, cell += 2) {
    if (cells[cell + 1] - cells[cell] !== 2) break
    words[row + done] = view.getInt16(cells[cell])
  }
  builder.commitRun(done)
  return done
}

const runInt4: DecodeRun = (source, cells, at, count, builder) => {
  const view = viewOf(source)
  const { row, words } = builder.openRun(count)
  let done = 0
  for (let cell = at; done < count; done++, cell += 2) {
    if (cells[cell + 1] - cells[cell] !== 4) break
    words[row + done] = view.getInt32(cells[cell])
  }
  builder.commitRun(done)
  return done
}

const runInt8: DecodeRun = (source, cells, at, count, builder) => {
  const view = viewOf(source)
  const { row, words } = builder.openRun(count)
  let done = 0
  for (let cell = at, to = row * 2; done < count; done++, cell += 2, to += 2) {
    const start = cells[cell]
    if (cells[cell + 1] - start !== 8) break
    words[to] = view.getInt32(start + 4)
    words[to + 1] = view.getInt32(start)
  }
  builder.commitRun(done)
  return done
}

const runFloat4: DecodeRun = (source, cells, at, count, builder) => {
  const view = viewOf(source)
  const { row, words } = builder.openRun(count)
  let done = 0
  for (let cell = at; done < count; done++, cell += 2) {
    if (cells[cell + 1] - cells[cell] !== 4) break
    const bits = view.getInt32(cells[cell])
    if ((bits & 0x7f80_0000) === 0x7f80_0000) break
    words[row + done] = bits
  }
  builder.commitRun(done)
  return done
}

const runFloat8: DecodeRun = (source, cells, at, count, builder) => {
  const view = viewOf(source)
  const { row, words } = builder.openRun(count)
  let done = 0
  for (let cell = at, to = row * 2; done < count; done++, cell += 2, to += 2) {
    const start = cells[cell]
    if (cells[cell + 1] - start !== 8) break
    const high = view.getInt32(start)
    if ((high & 0x7ff0_0000) === 0x7ff0_0000) break
    words[to] = view.getInt32(start + 4)
    words[to + 1] = high
  }
  builder.commitRun(done)
  return done
}

const runDate: DecodeRun = (source, cells, at, count, builder) => {
  const view = viewOf(source)
  const { row, words } = builder.openRun(count)
  let done = 0
  for (let cell = at; done < count; done++, cell += 2) {
    if (cells[cell + 1] - cells[cell] !== 4) break
    const days = view.getInt32(cells[cell])
    if (days > EVERYDAY || days < -EVERYDAY) break
    words[row + done] = days + EPOCH_DAYS
  }
  builder.commitRun(done)
  return done
}

const runTimestamp: DecodeRun = (source, cells, at, count, builder) => {
  const view = viewOf(source)
  const { row, words } = builder.openRun(count)
  let done = 0
  for (let cell = at, to = row * 2; done < count; done++, cell += 2, to += 2) {
    const start = cells[cell]
    if (cells[cell + 1] - start !== 8) break
    const high = view.getInt32(start)
    if (high > EVERYDAY || high < -EVERYDAY) break
    const sum = view.getUint32(start + 4) + EPOCH_LOW
    words[to] = sum
    words[to + 1] = high + EPOCH_HIGH + (sum >= TWO_32 ? 1 : 0)
  }
  builder.commitRun(done)
  return done
}

const runBool: DecodeRun = (source, cells, at, count, builder) => {
  const { row, values } = builder.openRun(count)
  let done = 0
  for (let cell = at; done < count; done++, cell += 2) {
    if (cells[cell + 1] - cells[cell] !== 1) break
    const to = row + done
    if (source[cells[cell]] !== 0) values[to >> 3] |= 1 << (to & 7)
    else values[to >> 3] &= ~(1 << (to & 7))
  }
  builder.commitRun(done)
  return done
}

const runUuid: DecodeRun = (source, cells, at, count, builder) => {
  const view = viewOf(source)
  const { row, words } = builder.openRun(count)
  let done = 0
  for (let cell = at, to = row * 4; done < count; done++, cell += 2, to += 4) {
    const start = cells[cell]
    if (cells[cell + 1] - start !== 16) break
    words[to] = view.getInt32(start, true)
    words[to + 1] = view.getInt32(start + 4, true)
    words[to + 2] = view.getInt32(start + 8, true)
    words[to + 3] = view.getInt32(start + 12, true)
  }
  builder.commitRun(done)
  return done
}

const runBytes: DecodeRun = (source, cells, at, count, builder) => {
  let bytes = 0
  let length = 0
  for (let cell = at; length < count && cells[cell + 1] >= 0; length++, cell += 2) bytes += cells[cell + 1] - cells[cell]
  copyRun(source, cells, at, length, bytes, 0, builder)
  return length
}

/** A version byte before each value. */
const runVersioned: DecodeRun = (source, cells, at, count, builder) => {
  let bytes = 0
  let length = 0
  for (let cell = at; length < count && cells[cell + 1] > cells[cell] && source[cells[cell]] === 1; length++, cell += 2) {
    bytes += cells[cell + 1] - cells[cell] - 1
  }
  copyRun(source, cells, at, length, bytes, 1, builder)
  return length
}

/** Copies `count` values of `bytes` bytes in total, each without its first `skip` bytes. */
function copyRun(
  source: Uint8Array,
  cells: Int32Array,
  at: number,
  count: number,
  bytes: number,
  skip: number,
  builder: Parameters<DecodeRun>[4],
): void {
  if (count === 0) return
  const view = viewOf(source)
  // What is written behind a value is overwritten next, or never read.
  const { row, values, offsets } = builder.openRun(count, bytes + COPY_SLACK_BYTES)
  const target = viewOf(values)
  let to = offsets![row]
  for (let index = 0, cell = at; index < count; index++, cell += 2) {
    const start = cells[cell] + skip
    const end = cells[cell + 1]
    if (end - start > SHORT_COPY_BYTES || end + COPY_SLACK_BYTES > source.length) values.set(source.subarray(start, end), to)
    else copyShort(target, to, view, start, end)
    to += end - start
    offsets![row + index + 1] = to
  }
  builder.commitRun(count)
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

for (const [decode, run] of [
  [binaryInt2, runInt2],
  [binaryInt4, runInt4],
  [binaryInt8, runInt8],
  [binaryFloat4, runFloat4],
  [binaryFloat8, runFloat8],
  [binaryDate, runDate],
  [binaryTimestamp, runTimestamp],
  [binaryBool, runBool],
  [binaryUuid, runUuid],
  [rawBytes, runBytes],
  [binaryVersioned, runVersioned],
] as const) {
  registerRun(decode, run)
}
