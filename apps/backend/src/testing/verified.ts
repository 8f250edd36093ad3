import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { moonlink, type CommandResult } from './command-line.ts'

const PATIENCE_MS = 60_000
const POLL_MS = 100

/** What `moonlink verify` says of a backend's tables, or with these arguments; while one of them is being copied or made equal, it is asked again. */
export async function verified(url: string, directory: string, ...args: readonly string[]): Promise<CommandResult> {
  const deadline = Date.now() + PATIENCE_MS
  for (;;) {
    const result = await moonlink(['verify', ...args], { MOONLINK_URL: url }, directory)
    const isPassing = /TABLE_(RESYNCING|COPYING)/.test(result.stdout + result.stderr)
    if (!isPassing || Date.now() > deadline) return result
    await sleep(POLL_MS)
  }
}

/** Expects the tables, or all where none is named, to be equal to their source. */
export async function expectVerified(url: string, directory: string, ...tables: readonly string[]): Promise<void> {
  const { status, stderr, stdout } = await verified(url, directory, ...tables, '--json')
  expect(stdout + stderr).not.toContain('"different"')
  expect(status, stdout + stderr).toBe(0)
}
