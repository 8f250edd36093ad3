export { isRefusal } from './outcomes.ts'
export { Engine, type EngineOptions } from './engine.ts'
export { Mirror } from './mirror.ts'
export {
  COPY_SPOOL_FULL,
  PAUSED_PROPERTY,
  RESYNC_PROPERTY,
  SOURCE_STATE_PROPERTY,
  type MirrorPhase,
  type MirrorSpec,
  type MirrorStatus,
  type ResyncSource,
} from './mirror-spec.ts'
export type { CopySession } from './copy-record.ts'
export type { ReadChanged } from './table-copy.ts'
export { defaultEngineLimits, type CompactionLimits, type EngineLimits } from './limits.ts'
