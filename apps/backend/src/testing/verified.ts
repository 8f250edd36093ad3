import { moonlink, type CommandResult } from './command-line.ts'

const PATIENCE_MS = 60_000

/** What `moonlink verify` says of a backend's tables, or of these; while one of them is being copied or made equal, it is asked again. */
export async function verified(url: string, directory: string, ...tables: readonly string[]): Promise<CommandResult> {
  const deadline = Date.now() + PATIENCE_MS
  for (;;) {
    const result = await moonlink(['verify', ...tables], { MOONLINK_URL: url }, directory)
    const isPassing = /TABLE_(RESYNCING|COPYING)/.test(result.stdout + result.stderr)
    if (!isPassing || Date.now() > deadline) return result
  }
}
