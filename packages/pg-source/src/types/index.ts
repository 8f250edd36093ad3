export { BadValueError } from './bad-value.ts'
export type { DecodeValue } from './decoder.ts'
export { mapColumn, type MappedColumn, type MappingOptions, type SourceColumn } from './mapping.ts'
