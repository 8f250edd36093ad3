import type { ChangeIntake } from './change-intake.ts'
import type { Flusher } from './flusher.ts'
import type { MirrorCore } from './mirror-core.ts'

/** Begins again from the last commit; the stream has to bring the rest. Among the jobs and under the lock. */
export async function rewind(core: MirrorCore, intake: ChangeIntake, flusher: Flusher): Promise<void> {
  await flusher.abandonFiles()
  core.closeIndexes()
  flusher.forget()
  core.resetState()
  await intake.restartAt(core.committed.lsn!)
  await core.loadFiles()
}
