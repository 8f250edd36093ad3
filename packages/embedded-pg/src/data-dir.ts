import { randomBytes } from 'node:crypto'
import { chmod, chown, lstat, mkdir, mkdtemp, readdir, readFile, realpath, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { MoonlinkError } from '@moonlink/core'
import type { Binaries } from './binaries.ts'
import { run } from './processes.ts'
import { isReachable, type ServerUser } from './unprivileged.ts'

/** A directory that holds an initialised cluster. */
export interface Cluster {
  /** Real path. */
  readonly path: string
  readonly password: string
}

const PASSWORD_FILE = 'moonlink.password'
const RELOCATED = '/var/lib/moonlink-postgres'

/** Makes an empty directory that only the server's user can enter. */
export async function makePrivateDir(prefix: string, user: ServerUser | null): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), prefix))
  await chmod(path, 0o700)
  if (user) await chown(path, user.uid, user.gid)
  return path
}

/**
 * Opens the cluster in `dataDir`, or creates it there. Where we are root and the server's user could not reach `dataDir` (it lies
 * under `/root`, say), the cluster lives under /var/lib/moonlink-postgres and `dataDir` is a symbolic link to it.
 */
export async function openCluster(dataDir: string, binaries: Binaries, user: ServerUser | null, isTemporary: boolean): Promise<Cluster> {
  const path = await placeFor(resolve(dataDir), user)
  if (user) await giveTo(path, user)
  await chmod(path, 0o700)
  if (!(await hasCluster(path))) return createCluster(path, binaries, user, isTemporary)
  const password = await readFile(join(path, PASSWORD_FILE), 'utf8').catch(() => null)
  if (password === null) {
    throw new MoonlinkError(
      'invalid',
      'EMBEDDED_PG_FOREIGN',
      `${dataDir} holds a Postgres cluster that was not made here. Start that server yourself and give its address (--source postgres://…), or name another directory.`,
      { context: { dataDir } },
    )
  }
  return { path, password: password.trim() }
}

async function createCluster(path: string, binaries: Binaries, user: ServerUser | null, isTemporary: boolean): Promise<Cluster> {
  const left = await readdir(path)
  if (left.length > 0) {
    throw new MoonlinkError(
      'invalid',
      'EMBEDDED_PG_NOT_EMPTY',
      `${path} is neither empty nor a Postgres cluster. Empty it or name another directory.`,
      {
        context: { path },
      },
    )
  }
  const password = randomBytes(18).toString('base64url')
  const secrets = await makePrivateDir('moonlink-init-', user)
  try {
    const passwordFile = join(secrets, 'password')
    await writeFile(passwordFile, `${password}\n`, { mode: 0o600 })
    if (user) await chown(passwordFile, user.uid, user.gid)
    const security = ['-U', 'postgres', '--auth=scram-sha-256', `--pwfile=${passwordFile}`]
    const locale = [
      '--encoding=UTF8',
      '--locale=C',
      ...(binaries.isPackaged ? ['--locale-provider=builtin', '--builtin-locale=C.UTF-8'] : []),
    ]
    await run(binaries.initdb, ['-D', path, ...security, ...locale, ...(isTemporary ? ['--no-sync'] : [])], user, path)
  } catch (cause) {
    // A half-made cluster would be refused at the next start.
    for (const name of await readdir(path)) await rm(join(path, name), { recursive: true, force: true })
    throw cause
  } finally {
    await rm(secrets, { recursive: true, force: true })
  }
  await writeFile(join(path, PASSWORD_FILE), `${password}\n`, { mode: 0o600 })
  if (user) await chown(join(path, PASSWORD_FILE), user.uid, user.gid)
  return { path, password }
}

async function placeFor(dataDir: string, user: ServerUser | null): Promise<string> {
  const found = await lstat(dataDir).catch(() => null)
  if (found) {
    if (user && !found.isSymbolicLink() && !(await isReachable(dirname(dataDir)))) {
      if ((await readdir(dataDir)).length > 0) throw unreachable(dataDir)
      await rm(dataDir, { recursive: true })
      return relocate(dataDir)
    }
    return realpath(dataDir).catch(async () => {
      // The link's target is gone: start afresh.
      await rm(dataDir, { force: true })
      return placeFor(dataDir, user)
    })
  }
  await mkdir(dirname(dataDir), { recursive: true })
  if (user && !(await isReachable(dirname(dataDir)))) return relocate(dataDir)
  await mkdir(dataDir, { mode: 0o700 })
  return realpath(dataDir)
}

async function relocate(dataDir: string): Promise<string> {
  await mkdir(RELOCATED, { recursive: true, mode: 0o755 })
  if (!(await isReachable(RELOCATED))) throw unreachable(dataDir)
  const target = await mkdtemp(join(RELOCATED, 'data-'))
  await symlink(target, dataDir)
  return target
}

function unreachable(dataDir: string): MoonlinkError {
  return new MoonlinkError(
    'invalid',
    'EMBEDDED_PG_UNREACHABLE',
    `Postgres may not run as root, and no other user can enter ${dataDir}. Name a directory outside root's home, or start as another user.`,
    { context: { dataDir } },
  )
}

async function hasCluster(path: string): Promise<boolean> {
  return stat(join(path, 'PG_VERSION')).then(
    () => true,
    () => false,
  )
}

async function giveTo(path: string, user: ServerUser): Promise<void> {
  const { uid } = await stat(path)
  if (uid === user.uid) return
  await chown(path, user.uid, user.gid)
  for (const entry of await readdir(path, { withFileTypes: true, recursive: true })) {
    if (!entry.isSymbolicLink()) await chown(join(entry.parentPath, entry.name), user.uid, user.gid)
  }
}
