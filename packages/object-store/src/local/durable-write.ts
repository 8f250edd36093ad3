import { constants } from 'node:fs'
import { link, mkdir, open, rename, unlink, type FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { MoonlinkError, randomUuid, type ObjectBytes, type Random } from '@moonlink/core'
import { errnoOf } from './local-errors.ts'

/** Names that start like this are files in the making; no list shows them. Readers skip names with a leading dot as well. */
export const TEMPORARY_PREFIX = '.moonlink-tmp-'

/** How often a directory that vanishes between its making and its use, since a delete emptied it, is made again. */
const DIRECTORY_ATTEMPTS = 20

/** Replaces `path` by `bytes`: after a crash at any point the old or the new content is there, whole. */
export async function replaceDurably(path: string, bytes: ObjectBytes, random: Random): Promise<void> {
  const temporary = await writeTemporary(path, bytes, random)
  try {
    await rename(temporary, path)
  } catch (error) {
    await unlink(temporary).catch(() => {})
    throw error
  }
  await syncDirectory(dirname(path))
}

/**
 * Writes `path` where nothing has that name; false otherwise. link(2) is what makes it atomic: it fails if the name is taken,
 * and what it links is complete and on disk already.
 */
export async function createDurably(path: string, bytes: Uint8Array, random: Random): Promise<boolean> {
  const temporary = await writeTemporary(path, bytes, random)
  try {
    await link(temporary, path)
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false
    throw mapLinkError(error, path)
  } finally {
    await unlink(temporary).catch(() => {})
  }
  await syncDirectory(dirname(path))
  return true
}

/** Makes the names in a directory survive a power cut. One that is gone has none: what was in it was deleted since. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  })
  if (handle === null) return
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function writeTemporary(path: string, bytes: ObjectBytes, random: Random): Promise<string> {
  const temporary = join(dirname(path), `${TEMPORARY_PREFIX}${randomUuid(random)}`)
  const handle = await openMakingDirectories(temporary)
  try {
    for (const part of bytes instanceof Uint8Array ? [bytes] : bytes) await writeAll(handle, part)
    await handle.sync()
  } catch (error) {
    await handle.close()
    await unlink(temporary).catch(() => {})
    throw error
  }
  await handle.close()
  return temporary
}

/** Behind what was written before. Not `writeFile`, which takes half a megabyte at a time. */
async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += (await handle.write(bytes, done, bytes.length - done)).bytesWritten
}

async function openMakingDirectories(path: string): Promise<FileHandle> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await open(path, 'wx')
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error
      if (attempt > DIRECTORY_ATTEMPTS) throw noDirectory(dirname(path), error)
    }
    await makeDirectory(dirname(path))
  }
}

/** Some places (/proc, mounts of some services) take no directories, and say that the new one is not there. */
function noDirectory(directory: string, cause: unknown): MoonlinkError {
  const message = `cannot make the directory ${directory}: its file system takes none there, or it is removed again each time; choose another directory (ENOENT).`
  return new MoonlinkError('invalid', 'STORE_NOT_WRITABLE', message, { context: { path: directory, errno: 'ENOENT' }, cause })
}

/** Makes a directory and its parents, and syncs the parent of each one made: a file is as lasting as the names above it. */
async function makeDirectory(directory: string): Promise<void> {
  // Not mkdir's own `recursive`: in Node 24 it never returns where the parent is there but takes no entries (/proc).
  let made = await makeOneDirectory(directory)
  if (made === 'no parent') {
    await makeDirectory(dirname(directory))
    made = await makeOneDirectory(directory)
  }
  if (made === 'made') await syncDirectory(dirname(directory))
}

async function makeOneDirectory(directory: string): Promise<'made' | 'there' | 'no parent'> {
  try {
    await mkdir(directory)
    return 'made'
  } catch (error) {
    const code = errnoOf(error)
    if (code === 'EEXIST') return 'there'
    if (code === 'ENOENT' && dirname(directory) !== directory) return 'no parent'
    throw error
  }
}

/** Some file systems (exFAT, some network mounts) have no hard links; they say so in several ways. */
function mapLinkError(error: unknown, path: string): unknown {
  const code = errnoOf(error)
  if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'EOPNOTSUPP' && code !== 'ENOSYS' && code !== 'EMLINK') return error
  return new MoonlinkError(
    'invalid',
    'STORE_WITHOUT_LINKS',
    `cannot create ${path} atomically: its file system has no hard links (${code}); choose a directory on a local disk.`,
    { context: { path, errno: code }, cause: error },
  )
}
