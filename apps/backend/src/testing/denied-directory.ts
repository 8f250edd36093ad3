import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const isRoot = process.getuid?.() === 0

/** Nothing can be made in these directories, nor removed, until `allow`. Root is kept from that by a file attribute alone. */
export function deny(directories: readonly string[]): void {
  if (isRoot) execFileSync('chattr', ['+i', ...directories], { stdio: 'pipe' })
  else for (const directory of directories) chmodSync(directory, 0o555)
}

export function allow(directories: readonly string[]): void {
  if (isRoot) execFileSync('chattr', ['-i', ...directories], { stdio: 'pipe' })
  else for (const directory of directories) chmodSync(directory, 0o755)
}

/** False where we are root, and have no such attribute to set. */
export function canDeny(): boolean {
  const probe = [mkdtempSync(join(tmpdir(), 'moonlink-denied-'))]
  try {
    deny(probe)
    allow(probe)
    return true
  } catch {
    return false
  } finally {
    rmdirSync(probe[0])
  }
}
