export { Engine, type EngineOptions } from './engine.ts'
export { Mirror, PAUSED_PROPERTY, RESYNC_PROPERTY, type MirrorPhase, type MirrorSpec, type MirrorStatus } from './mirror.ts'
export { defaultEngineLimits, type CompactionLimits, type EngineLimits } from './limits.ts'
