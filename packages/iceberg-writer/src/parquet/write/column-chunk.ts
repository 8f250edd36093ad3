import { crc32 } from 'node:zlib'
import type { ByteSink } from '@moonlink/core'
import { DataPageHeader, DictionaryPageHeader, Encoding, PageHeader, PageType } from '../footer.ts'
import { ThriftStruct, writeThrift } from '../thrift-compact.ts'
import type { ParquetCompression } from '../types.ts'
import { compress } from './compress.ts'
import { buildDictionary, type Dictionary } from './dictionary.ts'
import type { Leaf } from './file-schema.ts'
import { appendHybrid, appendRun, bitWidth } from './hybrid.ts'
import { appendPlain, plainSize } from './plain.ts'
import type { LeafEntries } from './shred.ts'
import { mergeRanges, rangeOf, type ValueRange } from './value-range.ts'

/** A data page of a chunk. Plain data. */
export interface EncodedPage {
  /** Where its header begins, counted from the start of the row group. */
  readonly offset: number
  /** Header included. */
  readonly size: number
  readonly firstRow: number
  readonly nullCount: number
  readonly isAllNull: boolean
  readonly range: ValueRange
}

/** A column chunk whose pages lie in its row group's bytes. Plain data. */
export interface EncodedChunk {
  readonly entries: number
  readonly nullCount: number
  readonly range: ValueRange
  readonly dictionaryOffset: number | null
  readonly compressedSize: number
  readonly uncompressedSize: number
  readonly pages: readonly EncodedPage[]
}

/** Uncompressed bytes of a page, about. */
const PAGE_BYTES = 1 << 20

/** Writes column chunks one behind the other: data pages of version 1, which every reader knows. */
export class ChunkWriter {
  private readonly output: ByteSink
  private readonly body: ByteSink
  private readonly compression: ParquetCompression
  private uncompressedSize = 0

  /** `output` is appended to; `body` holds a page at a time. */
  constructor(output: ByteSink, body: ByteSink, compression: ParquetCompression) {
    this.output = output
    this.body = body
    this.compression = compression
  }

  write(leaf: Leaf, entries: LeafEntries, rows: number): EncodedChunk {
    const start = this.output.length
    this.uncompressedSize = 0
    const dictionary = buildDictionary(entries.column, entries.from, entries.to)
    if (dictionary) this.writeDictionary(leaf, dictionary)
    const pages = cutIntoPages(leaf, entries, rows, dictionary).map((page) => this.writePage(leaf, entries, dictionary, page))
    return {
      entries: entries.count,
      nullCount: entries.count - (entries.to - entries.from),
      range: mergeRanges(
        leaf.type,
        pages.map(({ range }) => range),
      ),
      dictionaryOffset: dictionary ? start : null,
      compressedSize: this.output.length - start,
      uncompressedSize: this.uncompressedSize,
      pages,
    }
  }

  private writeDictionary(leaf: Leaf, { entries }: Dictionary): void {
    this.body.length = 0
    appendPlain(this.body, leaf, entries, 0, entries.length)
    const header = new ThriftStruct()
      .setI32(DictionaryPageHeader.NUM_VALUES, entries.length)
      .setI32(DictionaryPageHeader.ENCODING, Encoding.PLAIN)
    this.finishPage(PageType.DICTIONARY, PageHeader.DICTIONARY_PAGE, header)
  }

  private writePage(leaf: Leaf, entries: LeafEntries, dictionary: Dictionary | null, cut: PageCut): EncodedPage {
    const { body } = this
    const { entryFrom, entryTo, valueFrom, valueTo } = cut
    body.length = 0
    if (leaf.maxRepetition > 0) appendLevels(body, entries.repetition, entryFrom, entryTo, leaf.maxRepetition)
    if (leaf.maxDefinition > 0) appendLevels(body, entries.definition, entryFrom, entryTo, leaf.maxDefinition)
    if (dictionary) appendIndices(body, dictionary, valueFrom, valueTo)
    else appendPlain(body, leaf, entries.column, entries.from + valueFrom, entries.from + valueTo)
    const header = new ThriftStruct()
      .setI32(DataPageHeader.NUM_VALUES, entryTo - entryFrom)
      .setI32(DataPageHeader.ENCODING, dictionary ? Encoding.RLE_DICTIONARY : Encoding.PLAIN)
      .setI32(DataPageHeader.DEFINITION_ENCODING, Encoding.RLE)
      .setI32(DataPageHeader.REPETITION_ENCODING, Encoding.RLE)
    const offset = this.output.length
    const size = this.finishPage(PageType.DATA, PageHeader.DATA_PAGE, header)
    return {
      offset,
      size,
      firstRow: cut.firstRow,
      nullCount: entryTo - entryFrom - (valueTo - valueFrom),
      isAllNull: valueFrom === valueTo,
      range: rangeOf(entries.column, entries.from + valueFrom, entries.from + valueTo),
    }
  }

  /** Appends the body as a page of that type; returns its size. */
  private finishPage(type: number, headerId: number, header: ThriftStruct): number {
    const { body, output } = this
    const compressed = compress(body.written(), this.compression)
    const page = new ThriftStruct()
      .setI32(PageHeader.TYPE, type)
      .setI32(PageHeader.UNCOMPRESSED_SIZE, body.length)
      .setI32(PageHeader.COMPRESSED_SIZE, compressed.length)
      .setI32(PageHeader.CRC, crc32(compressed) | 0)
      .setStruct(headerId, header)
    const start = output.length
    output.append(writeThrift(page))
    this.uncompressedSize += output.length - start + body.length
    output.append(compressed)
    return output.length - start
  }
}

/** Entries and values of a page: both count from the chunk's first. */
interface PageCut {
  readonly firstRow: number
  readonly entryFrom: number
  readonly entryTo: number
  readonly valueFrom: number
  readonly valueTo: number
}

/** Pages of about equally many rows; one starts with a row. */
function cutIntoPages(leaf: Leaf, entries: LeafEntries, rows: number, dictionary: Dictionary | null): PageCut[] {
  const { column, from, to, count, definition, repetition } = entries
  const bytes = dictionary ? ((to - from) * bitWidth(dictionary.entries.length)) >> 3 : plainSize(leaf, column, from, to)
  const rowsPerPage = Math.ceil(rows / Math.max(1, Math.ceil(bytes / PAGE_BYTES)))
  const pages: PageCut[] = []
  let entryTo = 0
  let valueTo = 0
  for (let firstRow = 0; firstRow < rows; firstRow += rowsPerPage) {
    const entryFrom = entryTo
    const valueFrom = valueTo
    entryTo = endOfRows(repetition, entryFrom, Math.min(rowsPerPage, rows - firstRow), count)
    valueTo += definition === null ? entryTo - entryFrom : countOf(definition, entryFrom, entryTo, leaf.maxDefinition)
    pages.push({ firstRow, entryFrom, entryTo, valueFrom, valueTo })
  }
  return pages
}

/** Where the entries of `rows` rows end. */
function endOfRows(repetition: Uint8Array | null, from: number, rows: number, count: number): number {
  if (repetition === null) return from + rows
  let entry = from
  for (let row = 0; row <= rows && entry < count; entry++) if (repetition[entry] === 0 && ++row > rows) return entry
  return entry
}

function countOf(levels: Uint8Array, from: number, to: number, level: number): number {
  let count = 0
  for (let index = from; index < to; index++) if (levels[index] === level) count++
  return count
}

/** Levels behind their length in bytes. */
function appendLevels(sink: ByteSink, levels: Uint8Array | null, from: number, to: number, greatest: number): void {
  const start = sink.length
  sink.appendUint32(0)
  if (levels === null) appendRun(sink, greatest, to - from, bitWidth(greatest))
  else appendHybrid(sink, levels, from, to, bitWidth(greatest))
  sink.view.setUint32(start, sink.length - start - 4, true)
}

/** Indices behind their width in bits. */
function appendIndices(sink: ByteSink, { entries, indices }: Dictionary, from: number, to: number): void {
  const width = Math.max(1, bitWidth(entries.length - 1))
  sink.appendByte(width)
  appendHybrid(sink, indices, from, to, width)
}
