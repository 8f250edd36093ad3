export { deadRows } from './dead-rows.ts'
export { liveRows } from './live-rows.ts'
export type { AcquireRequest, DeathChunk, DeletesView, FileScan, Lease, LeaseSource, MemoryScan, TablePlan } from './plan.ts'
