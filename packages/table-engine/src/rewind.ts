import type { ChangeIntake } from './change-intake.ts'
import type { Flusher } from './flusher.ts'
import type { MirrorCore } from './mirror-core.ts'

/**
 * Begins again from the last commit; the stream has to bring the rest. Among the jobs and under the lock. Throws what the storage throws: where it can't be known which commit
 * is the last, nothing has changed. The caller ends `isRewinding` at once with saying what can be read.
 */
export async function rewind(core: MirrorCore, intake: ChangeIntake, flusher: Flusher): Promise<void> {
  await flusher.settle()
  await flusher.abandonFiles()
  // What a pause left uncommitted is shown no more.
  if (!flusher.isClean) core.pausedThroughLsn = null
  core.isRewinding = true
  core.closeIndexes()
  flusher.forget()
  core.resetState()
  try {
    await intake.restartAt(core.committed.lsn!)
    await core.loadFiles()
    core.rewindTrouble = null
  } catch (error) {
    core.rewindTrouble = error instanceof Error ? error.message : String(error)
    throw error
  }
}
