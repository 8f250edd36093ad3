export { DeletionLog, type Deaths } from './deletion-log.ts'
export type { DeathChunk } from './folded-deaths.ts'
export { PositionSet } from './position-set.ts'
export { loadRoaring } from './roaring.ts'
