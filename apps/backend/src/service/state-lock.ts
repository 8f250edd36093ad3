import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { MoonlinkError } from '@moonlink/core'

/** Who holds a state directory. `startedTicks` tells a process from a later one with the same id; null where the system has no /proc. */
interface Holder {
  readonly pid: number
  readonly startedTicks: string | null
}

/**
 * Makes the state directory ours until the returned function is called. What a process that is gone left is taken over.
 *
 * Throws `invalid`: `STATE_DIR_LOCKED` where a live process holds it, `STATE_DIR_UNUSABLE` where it can't be written.
 * Not promised: exclusion between machines that share a file system.
 */
export function lockStateDir(stateDir: string): () => void {
  const path = join(stateDir, 'lock')
  try {
    mkdirSync(stateDir, { recursive: true })
    for (;;) {
      if (tryCreate(path)) return () => rmSync(path, { force: true })
      const holder = readHolder(path)
      if (holder !== null && isAlive(holder)) {
        throw new MoonlinkError(
          'invalid',
          'STATE_DIR_LOCKED',
          `process ${holder.pid} works in ${stateDir} already; stop it (moonlink stop), or give this one a --state-dir of its own.`,
          { context: { stateDir, pid: holder.pid } },
        )
      }
      rmSync(path, { force: true })
    }
  } catch (error) {
    if (error instanceof MoonlinkError) throw error
    throw new MoonlinkError(
      'invalid',
      'STATE_DIR_UNUSABLE',
      `can't write to the state directory ${stateDir} (${(error as Error).message}); make it writable or choose another with --state-dir.`,
      { cause: error },
    )
  }
}

function tryCreate(path: string): boolean {
  const holder: Holder = { pid: process.pid, startedTicks: startedTicks(process.pid) }
  try {
    writeFileSync(path, JSON.stringify(holder), { flag: 'wx' })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

function readHolder(path: string): Holder | null {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Holder
  } catch {
    return null
  }
}

function isAlive(holder: Holder): boolean {
  // In a container every life of ours may have the same id.
  if (holder.pid === process.pid) return false
  try {
    process.kill(holder.pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  return holder.startedTicks === null || holder.startedTicks === startedTicks(holder.pid)
}

/** When the process started, in clock ticks since boot. */
function startedTicks(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The name, in parentheses, may hold spaces: count from its end.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null
  } catch {
    return null
  }
}
