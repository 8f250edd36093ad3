import type { Mirror } from './mirror.ts'

/** Those whose commits have been refused for `patienceMs`, while another's were not: what is refused to all is waited for. The one with most in memory comes first. */
export function deniedMirrors(mirrors: Iterable<Mirror>, nowMs: number, patienceMs: number): readonly Mirror[] {
  const all = [...mirrors]
  const committedAtMs = Math.max(...all.map((mirror) => mirror.committedAtMs ?? -Infinity))
  const denied = all.filter(({ deniedSinceMs }) => {
    return deniedSinceMs !== null && deniedSinceMs <= nowMs - patienceMs && deniedSinceMs < committedAtMs
  })
  return denied.sort((a, b) => b.memory.freeableBytes - a.memory.freeableBytes)
}
