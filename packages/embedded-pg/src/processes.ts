import { spawn, type ChildProcess } from 'node:child_process'
import { readFile, readlink, rm } from 'node:fs/promises'
import { platform } from 'node:os'
import { join } from 'node:path'
import { MoonlinkError, systemClock } from '@moonlink/core'
import type { ServerUser } from './unprivileged.ts'

/** What our children see of our environment: enough to run, nothing of the caller's own Postgres settings (`PG*`). */
function childEnv(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith('PG') && !name.startsWith('LC_') && name !== 'LANG')
  return { ...Object.fromEntries(kept), LC_ALL: 'C' }
}

/** Starts a program as the server's user. Signals meant for our process group (Ctrl-C) do not reach it. */
export function start(file: string, args: readonly string[], user: ServerUser | null, cwd: string): ChildProcess {
  const identity = user ? { uid: user.uid, gid: user.gid } : {}
  return spawn(file, [...args], {
    ...identity,
    cwd,
    env: childEnv(),
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
    windowsHide: true,
  })
}

/** Runs a program to its end; throws with what it said where that was a failure. */
export async function run(file: string, args: readonly string[], user: ServerUser | null, cwd: string): Promise<void> {
  const child = start(file, args, user, cwd)
  let said = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    said = `${said}${chunk.toString('utf8')}`.slice(-4000)
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  }).catch((cause: unknown) => {
    throw new MoonlinkError('invalid', 'EMBEDDED_PG_START', `could not run ${file}: ${String(cause)}`, { cause })
  })
  if (code !== 0) throw new MoonlinkError('invalid', 'EMBEDDED_PG_START', `${file} failed: ${oneLine(said)}`, { context: { code } })
}

/** The last thing a server said, as one line. */
export function oneLine(text: string): string {
  return text
    .trim()
    .replaceAll(/\s*\n\s*/g, ' | ')
    .slice(-1000)
}

/**
 * Stops the server with process id `pid` when this process ends in whatever way, even killed: a shell waits for our end of a pipe to close.
 * Then it removes `removeDirs`.
 */
export class Watchdog {
  private readonly child: ChildProcess | null

  constructor(pid: number, removeDirs: readonly string[]) {
    // SIGINT is a fast shutdown. A line on the pipe means that the server is gone already, and its id perhaps somebody else's.
    const script =
      'pid=$1; shift; if read -r done; then exit 0; fi; kill -INT "$pid" 2>/dev/null; n=0; ' +
      'while kill -0 "$pid" 2>/dev/null && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done; ' +
      'kill -QUIT "$pid" 2>/dev/null; [ $# -gt 0 ] && rm -rf "$@"'
    this.child =
      platform() === 'win32'
        ? null
        : spawn('/bin/sh', ['-c', script, 'moonlink-watchdog', String(pid), ...removeDirs], {
            detached: true,
            stdio: ['pipe', 'ignore', 'ignore'],
          })
    this.child?.on('error', () => {})
    this.child?.stdin?.on('error', () => {})
    this.child?.unref()
    unrefStream(this.child?.stdin)
  }

  /** To be called once the server has ended. */
  dismiss(): void {
    this.child?.stdin?.end('done\n')
  }
}

/** Lets the program end although this pipe is open. */
export function unrefStream(stream: unknown): void {
  const handle = stream as { unref?: () => void } | null | undefined
  handle?.unref?.()
}

/** First lines of postmaster.pid: the server's process id, port and state. */
export interface PostmasterState {
  readonly pid: number
  /** It takes connections, as a primary or as a standby. */
  readonly isReady: boolean
}

export async function readPostmaster(dataDir: string): Promise<PostmasterState | null> {
  const text = await readFile(join(dataDir, 'postmaster.pid'), 'utf8').catch(() => null)
  if (text === null) return null
  const lines = text.split('\n')
  const pid = Number(lines[0])
  return Number.isInteger(pid) && pid > 0 ? { pid, isReady: ['ready', 'standby'].includes(lines[7]?.trim() ?? '') } : null
}

/**
 * Deals with a postmaster.pid left in the data directory. One whose process is gone, or is by now another program, is removed;
 * a server that is still ending (its owner was killed) is waited for; one that keeps running is an error.
 */
export async function clearStalePostmaster(dataDir: string, waitMs: number): Promise<void> {
  const stepMs = 50
  for (let waitedMs = 0; ; waitedMs += stepMs) {
    const state = await readPostmaster(dataDir)
    if (state === null || !(await isServerOf(state.pid, dataDir))) break
    if (waitedMs >= waitMs) {
      throw new MoonlinkError(
        'invalid',
        'EMBEDDED_PG_RUNNING',
        `a Postgres server (process ${state.pid}) already runs on ${dataDir}. Stop the program that owns it, or name another directory.`,
        { context: { dataDir, pid: state.pid } },
      )
    }
    await systemClock.sleep(stepMs)
  }
  await rm(join(dataDir, 'postmaster.pid'), { force: true })
}

async function isServerOf(pid: number, dataDir: string): Promise<boolean> {
  if (!isAlive(pid)) return false
  if (platform() !== 'linux') return true
  // A server's working directory is its data directory; a process id taken over by something else points elsewhere.
  const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => null)
  return cwd === null || cwd === dataDir
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
