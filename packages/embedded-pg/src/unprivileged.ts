import { readFile, realpath, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { MoonlinkError } from '@moonlink/core'

/** The user that Postgres runs as; null where that is simply ourselves. */
export interface ServerUser {
  readonly uid: number
  readonly gid: number
}

export function weAreRoot(): boolean {
  return process.getuid?.() === 0
}

/**
 * Postgres refuses to run as root. Root therefore lends it an unprivileged account: the owner of an existing data directory, else
 * `postgres`, else `nobody`, else any other. The account has to be in /etc/passwd, where initdb looks it up.
 */
export async function chooseServerUser(dataDir: string | null): Promise<ServerUser | null> {
  if (!weAreRoot()) return null
  const accounts = await readAccounts()
  const owner = dataDir === null ? null : await stat(dataDir).catch(() => null)
  if (owner && owner.uid !== 0 && accounts.some((account) => account.uid === owner.uid)) return { uid: owner.uid, gid: owner.gid }
  const chosen = byName(accounts, 'postgres') ?? byName(accounts, 'nobody') ?? accounts.find((account) => account.uid > 0)
  if (!chosen) {
    throw new MoonlinkError(
      'invalid',
      'EMBEDDED_PG_ROOT',
      'Postgres refuses to run as root and /etc/passwd has no other account. Add one (useradd postgres), or start as another user.',
    )
  }
  return { uid: chosen.uid, gid: chosen.gid }
}

/** True where every user may enter `path` and all directories above it. */
export async function isReachable(path: string): Promise<boolean> {
  for (let at = await realpath(path); ; at = dirname(at)) {
    const { mode } = await stat(at)
    if ((mode & 0o001) === 0) return false
    if (at === dirname(at)) return true
  }
}

interface Account {
  readonly name: string
  readonly uid: number
  readonly gid: number
}

async function readAccounts(): Promise<readonly Account[]> {
  const text = await readFile('/etc/passwd', 'utf8').catch(() => '')
  return text
    .split('\n')
    .map((line) => line.split(':'))
    .filter((parts) => parts.length >= 4)
    .map((parts) => ({ name: parts[0], uid: Number(parts[2]), gid: Number(parts[3]) }))
    .filter((account) => Number.isInteger(account.uid) && account.uid > 0)
}

function byName(accounts: readonly Account[], name: string): Account | undefined {
  return accounts.find((account) => account.name === name)
}
