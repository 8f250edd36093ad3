import { constants, gzipSync, zstdCompressSync } from 'node:zlib'
import type { ParquetCompression } from '../types.ts'

/** The enum `CompressionCodec`. */
export const CODECS: Readonly<Record<ParquetCompression, number>> = { uncompressed: 0, gzip: 2, zstd: 6 }

const FAST = { [constants.ZSTD_c_compressionLevel]: 1 }

/** A page's bytes as they are stored. May share memory with `bytes`. */
export function compress(bytes: Uint8Array, compression: ParquetCompression): Uint8Array {
  switch (compression) {
    case 'uncompressed':
      return bytes
    case 'gzip':
      return gzipSync(bytes)
    case 'zstd':
      // One chunk of output takes it all, so that nothing is put together afterwards.
      return zstdCompressSync(bytes, { params: FAST, chunkSize: bytes.length + (bytes.length >> 8) + 64 })
  }
}
