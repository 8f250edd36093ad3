import { crc32 } from 'node:zlib'
import { ColumnMetaData, DataPageHeader, malformed, PageHeader } from './footer.ts'
import { readThriftPrefix, type ThriftStruct } from './thrift-compact.ts'

/**
 * What a byte can unpack to at most, by the enum `CompressionCodec`: nothing more where it is not compressed; snappy's copies of 64 bytes take three,
 * deflate's of 258 two bits, LZ4's 255 one byte, zstd's blocks of 128 KiB four. Others: 2^17, as much as anything that is no attack.
 */
const MAX_RATIO: Readonly<Record<number, number>> = { 0: 1, 1: 22, 2: 1032, 5: 255, 6: 32_768, 7: 255 }
const OTHER_RATIO = 1 << 17
/** Frames have headers. */
const SLACK_BYTES = 64 * 1024

/**
 * Checks a column chunk's pages before a decoder allocates by the sizes that they claim: a page must lie in the chunk, can't unpack to more than its compression makes
 * possible, and has the checksum that it names, where it names one. Throws `corrupt`.
 */
export function checkPages(pages: Uint8Array, chunk: ThriftStruct): void {
  const codec = chunk.i32(ColumnMetaData.CODEC) ?? 0
  const ratio = MAX_RATIO[codec] ?? OTHER_RATIO
  const values = chunk.i64(ColumnMetaData.NUM_VALUES) ?? 0
  let seen = 0
  let at = 0
  while (seen < values) {
    const { struct: header, size } = readThriftPrefix(pages.subarray(at))
    const packed = header.i32(PageHeader.COMPRESSED_SIZE) ?? -1
    const unpacked = header.i32(PageHeader.UNCOMPRESSED_SIZE) ?? -1
    at += size
    if (packed < 0 || at + packed > pages.length) throw malformed('a page is longer than its column')
    if (unpacked < 0 || unpacked > packed * ratio + SLACK_BYTES)
      throw malformed(`a page of ${packed} bytes claims to unpack to ${unpacked}`)
    const crc = header.i32(PageHeader.CRC)
    if (crc !== undefined && (crc32(pages.subarray(at, at + packed)) | 0) !== crc) throw malformed('a page is not what was written')
    at += packed
    const data = header.struct(PageHeader.DATA_PAGE) ?? header.struct(PageHeader.DATA_PAGE_V2)
    const count = data?.i32(DataPageHeader.NUM_VALUES) ?? 0
    if (count < 0) throw malformed('a page claims fewer values than none')
    seen += count
  }
}
