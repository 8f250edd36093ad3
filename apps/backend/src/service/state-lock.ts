import { linkSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { MoonlinkError } from '@moonlink/core'
import { z } from 'zod'

/** Who holds a state directory. `startedTicks` tells a process from a later one with the same id; null where the system has no /proc. */
const holderSchema = z.object({ pid: z.int32().positive(), startedTicks: z.string().nullable() })
type Holder = z.output<typeof holderSchema>

/**
 * Makes the state directory ours until the returned function is called. What a process that is gone left is taken over.
 *
 * Locks are numbered, and the highest holds: one that is stale is never removed by who wants to follow it, but outnumbered, so that of two who find
 * it exactly one wins.
 *
 * Throws `invalid`: `STATE_DIR_LOCKED` where a live process holds it, `STATE_DIR_UNUSABLE` where it can't be written.
 * Not promised: exclusion between machines that share a file system.
 */
export function lockStateDir(stateDir: string): () => void {
  try {
    makeDirectory(stateDir)
    for (;;) {
      const highest = lockNumbers(stateDir).at(-1)
      if (highest !== undefined) refuseIfAlive(stateDir, highest)
      const ours = highest === undefined ? 0 : highest + 1
      if (!tryCreate(stateDir, ours)) continue
      // Somebody who came before may have gone on from a higher one, and removed those below it.
      const others = lockNumbers(stateDir).filter((number) => number !== ours)
      if (others.some((number) => number > ours)) {
        rmSync(pathOf(stateDir, ours), { force: true })
        continue
      }
      for (const number of others) rmSync(pathOf(stateDir, number), { force: true })
      return () => rmSync(pathOf(stateDir, ours), { force: true })
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

/** Not mkdirSync's own `recursive`: in Node 24 it never returns where the parent is there but takes no entries (/proc). */
function makeDirectory(path: string): void {
  try {
    mkdirSync(path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST' && statSync(path).isDirectory()) return
    if (code !== 'ENOENT' || dirname(path) === path) throw error
    makeDirectory(dirname(path))
    mkdirSync(path)
  }
}

function pathOf(stateDir: string, number: number): string {
  return join(stateDir, number === 0 ? 'lock' : `lock.${number}`)
}

/** Of the locks that are there, ascending. */
function lockNumbers(stateDir: string): number[] {
  const numbers = readdirSync(stateDir).flatMap((name) => {
    const match = /^lock(?:\.(\d+))?$/.exec(name)
    return match === null ? [] : [Number(match[1] ?? 0)]
  })
  return numbers.sort((a, b) => a - b)
}

function refuseIfAlive(stateDir: string, number: number): void {
  const holder = readHolder(pathOf(stateDir, number))
  if (holder === null || !isAlive(holder)) return
  throw new MoonlinkError(
    'invalid',
    'STATE_DIR_LOCKED',
    `process ${holder.pid} works in ${stateDir} already; stop it (moonlink stop), or give this one a --state-dir of its own.`,
    { context: { stateDir, pid: holder.pid } },
  )
}

/** The lock appears with all it says, so that nobody takes one in the making for a stale one. */
function tryCreate(stateDir: string, number: number): boolean {
  const holder: Holder = { pid: process.pid, startedTicks: startedTicks(process.pid) }
  const draft = join(stateDir, `.lock-${process.pid}`)
  writeFileSync(draft, JSON.stringify(holder))
  try {
    linkSync(draft, pathOf(stateDir, number))
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  } finally {
    rmSync(draft, { force: true })
  }
}

/** Null where it names nobody: what a crash of the machine, or a disk, made of it. */
function readHolder(path: string): Holder | null {
  try {
    return holderSchema.parse(JSON.parse(readFileSync(path, 'utf8')))
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
