export { CopyBinaryDecoder } from './copy-binary-decoder.ts'
export type { MirroredTable, Relation } from './mirrored-table.ts'
export { identifierNames } from './relation.ts'
export { StreamDecoder } from './stream-decoder.ts'
