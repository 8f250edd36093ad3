export { CopyBinaryDecoder } from './copy-binary-decoder.ts'
export type { MirroredTable, Relation } from './mirrored-table.ts'
export { PgoutputDecoder } from './pgoutput-decoder.ts'
export { identifierNames } from './relation.ts'
