import { joinBytes, type Value } from '@moonlink/core'
import { damaged, damages, fuzzing, readOrRefuse } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { fetchRows, planScan, readWindow, wasmMemoryBytes } from './decode.ts'
import { encodeParquet } from './encode.ts'
import { chunkRange, ColumnChunk, encodeFooter, FileMetaData, readFooter, RowGroup, TRAILER_SIZE } from './footer.ts'
import { field, listOf, toBatch } from './rows.test.support.ts'
import { readThrift, ThriftStruct, ThriftType, writeThrift, type ThriftList } from './thrift-compact.ts'

const fields = [
  field(1, { kind: 'long' }, true),
  field(2, { kind: 'string' }),
  field(3, listOf({ kind: 'int' }, 4)),
  field(5, { kind: 'uuid' }),
]
const rows: Value[][] = Array.from({ length: 200 }, (_, row) => [
  BigInt(row),
  row % 3 === 0 ? null : `row ${row % 11}`,
  row % 5 === 0 ? null : [row, null],
  new Uint8Array(16).fill(row),
])
const lineage = { firstRowId: 1000, dataSequenceNumber: 3 }
const file = joinBytes(
  encodeParquet({ rows: toBatch(fields, rows), rowIds: null, lastUpdated: null }, { fields, identifierFieldIds: [] }, { rowGroupRows: 90 })
    .bytes,
)
const footerSize = new DataView(file.buffer, file.byteOffset).getUint32(file.length - TRAILER_SIZE, true)
const footerAt = file.length - TRAILER_SIZE - footerSize
/** What no file of a few kilobytes can mean by a size, an offset, a count or an enum. */
const ABSURD = [-1n, 255n, 2n ** 31n - 1n, -(2n ** 31n), 2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n)]

function scan(bytes: Uint8Array): number {
  let count = 0
  for (const window of planScan({ bytes }, fields, lineage)) {
    const { rows: batch } = readWindow({ bytes }, window, fields, lineage)
    for (const column of batch.columns) expect(column.length).toBe(window.length)
    count += window.length
  }
  return count
}

/** Reads the whole file, and some rows by their places. */
async function readBoth(bytes: Uint8Array): Promise<(number | null)[]> {
  const read = [
    await readOrRefuse(() => scan(bytes)),
    await readOrRefuse(() => fetchRows({ bytes }, Uint32Array.of(3, 150), fields).length),
  ]
  // Sizes that are made up must not be believed: this memory never shrinks.
  expect(wasmMemoryBytes()).toBeLessThan(64 << 20)
  return read
}

function withFooter(metadata: ThriftStruct): Uint8Array {
  return joinBytes([file.subarray(0, footerAt), encodeFooter(metadata)])
}

/** Copies of a struct, in each of which one integer, at any depth, is another. */
function* withAbsurdNumbers(struct: ThriftStruct): Generator<ThriftStruct> {
  for (const id of struct.ids) {
    const type = struct.typeOf(id)!
    const value = struct.value(id)!
    if (type === ThriftType.I32) for (const number of ABSURD) yield struct.clone().setI32(id, Number(BigInt.asIntN(32, number)))
    else if (type === ThriftType.I64) for (const number of ABSURD) yield struct.clone().set(id, type, number)
    else if (value instanceof ThriftStruct) for (const changed of withAbsurdNumbers(value)) yield struct.clone().setStruct(id, changed)
    else if (type === ThriftType.LIST) {
      const { elementType, items } = value as ThriftList
      for (const [index, item] of items.entries()) {
        if (!(item instanceof ThriftStruct)) continue
        for (const changed of withAbsurdNumbers(item)) yield struct.clone().setList(id, elementType, items.with(index, changed))
      }
    }
  }
}

test('what is damaged below reads undamaged', async () => {
  expect(await readBoth(file)).toEqual([200, 2])
  expect(await readBoth(withFooter(readFooter(file)))).toEqual([200, 2])
})

test('a file with a damaged footer is refused or read', async () => {
  await fc.assert(
    fc.asyncProperty(damages, async (what) => {
      const metadata = damaged(file.subarray(footerAt, footerAt + footerSize), what)
      const trailer = file.slice(file.length - TRAILER_SIZE)
      new DataView(trailer.buffer).setUint32(0, metadata.length, true)
      await readBoth(joinBytes([file.subarray(0, footerAt), metadata, trailer]))
    }),
    fuzzing(500),
  )
})

test('a file damaged anywhere is refused or read', async () => {
  await fc.assert(
    fc.asyncProperty(damages, async (what) => {
      await readBoth(damaged(file, what))
    }),
    fuzzing(500),
  )
})

test('no number of a footer is believed', async () => {
  let refused = 0
  const read = async (metadata: ThriftStruct) => {
    if ((await readBoth(withFooter(metadata))).includes(null)) refused++
  }
  await fc.assert(fc.asyncProperty(fc.constantFrom(...withAbsurdNumbers(readFooter(file))), read), fuzzing(300))
  expect(refused).toBeGreaterThan(50)
})

test('no number of a page header is believed', async () => {
  for (const chunk of readFooter(file).structs(FileMetaData.ROW_GROUPS)[0].structs(RowGroup.COLUMNS)) {
    const { start, size } = chunkRange(chunk, file.length)
    const pages = file.subarray(start, start + size)
    const header = readThrift(pages)
    const headerSize = writeThrift(header).length
    for (const changed of withAbsurdNumbers(header)) {
      const replaced = writeThrift(changed)
      // The same place for all else: what a longer header takes, the page lacks.
      const room = joinBytes([replaced, pages.subarray(headerSize)]).subarray(0, size)
      const bytes = file.slice()
      bytes.set(room, start)
      await readBoth(bytes)
    }
  }
})

test('no number of an offset index is believed', async () => {
  const chunk = readFooter(file).structs(FileMetaData.ROW_GROUPS)[0].structs(RowGroup.COLUMNS)[0]
  const offset = chunk.i64(ColumnChunk.OFFSET_INDEX_OFFSET)!
  const length = chunk.i32(ColumnChunk.OFFSET_INDEX_LENGTH)!
  for (const changed of withAbsurdNumbers(readThrift(file.subarray(offset, offset + length)))) {
    const bytes = writeThrift(changed)
    const metadata = readFooter(file)
    const groups = metadata.structs(FileMetaData.ROW_GROUPS).map((group) => {
      const chunks = group.structs(RowGroup.COLUMNS).map((one) => {
        return one.clone().setI64(ColumnChunk.OFFSET_INDEX_OFFSET, footerAt).setI32(ColumnChunk.OFFSET_INDEX_LENGTH, bytes.length)
      })
      return group.clone().setStructs(RowGroup.COLUMNS, chunks)
    })
    await readBoth(
      joinBytes([file.subarray(0, footerAt), bytes, encodeFooter(metadata.clone().setStructs(FileMetaData.ROW_GROUPS, groups))]),
    )
  }
})
