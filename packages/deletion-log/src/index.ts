export { DeletionLog, NO_SEGMENT, type DeadPlaces } from './deletion-log.ts'
export { PositionSet } from './position-set.ts'
export { loadRoaring } from './roaring.ts'
