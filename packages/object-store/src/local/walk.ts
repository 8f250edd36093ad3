import { opendir, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Dirent, Stats } from 'node:fs'
import { TEMPORARY_PREFIX } from './durable-write.ts'
import { isAbsent } from './local-errors.ts'

/** Objects, or the files in the making that a crash left behind. */
type Kind = 'objects' | 'temporaries'

export interface WalkedFile {
  readonly path: string
  readonly stats: Stats
}

/**
 * Every file whose path starts with `prefix`, at any depth. What vanishes meanwhile is left out. Symbolic links are followed,
 * except to a directory that the walk is already inside.
 */
export async function* walkFiles(prefix: string, kind: Kind = 'objects'): AsyncGenerator<WalkedFile> {
  yield* walkDirectory(prefix.slice(0, prefix.lastIndexOf('/') + 1), prefix, kind, [])
}

async function* walkDirectory(directory: string, prefix: string, kind: Kind, inside: readonly string[]): AsyncGenerator<WalkedFile> {
  for (const entry of await entriesOf(directory)) {
    const path = directory + entry.name
    if (!path.startsWith(prefix)) continue
    const isWanted = entry.name.startsWith(TEMPORARY_PREFIX) === (kind === 'temporaries')
    const stats = entry.isDirectory() ? null : await absentAsNull(() => stat(path))
    if (entry.isDirectory()) yield* walkDirectory(`${path}/`, prefix, kind, inside)
    else if (stats?.isFile() && isWanted) yield { path, stats }
    else if (stats?.isDirectory()) yield* walkLinkedDirectory(path, prefix, kind, inside)
  }
}

async function* walkLinkedDirectory(path: string, prefix: string, kind: Kind, inside: readonly string[]): AsyncGenerator<WalkedFile> {
  const target = await absentAsNull(() => realpath(path))
  if (target === null || inside.includes(target)) return
  const parent = await absentAsNull(() => realpath(join(path, '..')))
  if (parent === null || `${parent}/`.startsWith(`${target}/`)) return
  yield* walkDirectory(`${path}/`, prefix, kind, [...inside, target])
}

async function entriesOf(directory: string): Promise<Dirent[]> {
  const opened = await absentAsNull(() => opendir(directory))
  const entries: Dirent[] = []
  if (opened !== null) for await (const entry of opened) entries.push(entry)
  return entries
}

async function absentAsNull<T>(read: () => Promise<T>): Promise<T | null> {
  try {
    return await read()
  } catch (error) {
    if (isAbsent(error)) return null
    throw error
  }
}
