export { deadRows } from './dead-rows.ts'
export { liveRows } from './live-rows.ts'
export type { AcquireRequest, DeathChunk, DeletesView, FileScan, ReadLease, ReadLeaseSource, MemoryScan, TablePlan } from './plan.ts'
