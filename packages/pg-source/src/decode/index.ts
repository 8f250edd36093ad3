export { CopyBinaryDecoder, type CopyBinaryDecoderOptions } from './copy-binary-decoder.ts'
export type { MirroredTable, Relation, RelationColumn } from './mirrored-table.ts'
export { PgoutputDecoder, type Keepalive, type PgoutputDecoderOptions } from './pgoutput-decoder.ts'
