export { CopyBinaryDecoder } from './copy-binary-decoder.ts'
export type { MirroredTable, Relation } from './mirrored-table.ts'
export { PgoutputDecoder, type PgoutputDecoderOptions } from './pgoutput-decoder.ts'
