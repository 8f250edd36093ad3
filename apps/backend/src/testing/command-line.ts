import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'

const main = join(import.meta.dirname, '../../dist/main.js')

export interface CommandResult {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs `moonlink` as a person would and waits for its end. Variables of the surroundings that would configure it are left out. */
export async function moonlink(args: readonly string[], env: Readonly<Record<string, string>> = {}, cwd?: string): Promise<CommandResult> {
  const surroundings = Object.entries(process.env).filter(([name]) => !/^(MOONLINK_|PG|DATABASE_URL$|AWS_)/.test(name))
  const child = spawn(process.execPath, [main, ...args], {
    env: { ...Object.fromEntries(surroundings), ...env },
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  return { status: child.exitCode, stdout, stderr }
}
