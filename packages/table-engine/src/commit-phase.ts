import type { Clock, Telemetry } from '@moonlink/core'

/** Runs one phase of a commit: a span of its own, and its time in `moonlink_commit_phase_seconds`. */
export async function commitPhase<T>(
  host: { readonly clock: Clock; readonly telemetry: Telemetry },
  table: string,
  phase: 'write' | 'commit',
  work: () => Promise<T>,
): Promise<T> {
  const startedMs = host.clock.nowMs()
  const result = await host.telemetry.span(phase, { table }, work)
  host.telemetry.observe('moonlink_commit_phase_seconds', (host.clock.nowMs() - startedMs) / 1000, { table, phase })
  return result
}
