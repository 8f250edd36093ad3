import { closeSync, mkdirSync, openSync, readdirSync, readSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { MoonlinkError } from '@moonlink/core'

/**
 * Files for what does not fit into memory while its transaction is in progress. Calls are synchronous: they go to the page cache in
 * blocks, and the decoder that makes them has nothing else to do meanwhile.
 */
export interface SpoolFiles {
  create(): SpoolFile
}

export interface SpoolFile {
  /** Writes all of `bytes` at `offset`. */
  write(bytes: Uint8Array, offset: number): void
  /** Fills `into` from `offset`. Throws where the file ends before. */
  read(into: Uint8Array, offset: number): void
  /** Gives the space back. */
  remove(): void
}

const SUFFIX = '.spool'

/**
 * Spool files in a directory of their own. What an earlier process left there is removed: the source sends it again. Throws `retry`/`SPOOL_FULL` where the disk is
 * full and `retry`/`SPOOL_FAILED` where it can't be used otherwise: the source sends again what was not spooled, so that it goes on once that is over.
 */
export class LocalSpoolFiles implements SpoolFiles {
  private readonly directory: string
  private next = 1

  constructor(directory: string) {
    this.directory = directory
    explained(directory, () => {
      mkdirSync(directory, { recursive: true })
      for (const name of readdirSync(directory)) if (name.endsWith(SUFFIX)) rmSync(join(directory, name), { force: true })
    })
  }

  create(): SpoolFile {
    const { directory } = this
    const path = join(directory, `${process.pid}-${this.next++}${SUFFIX}`)
    const fd = explained(directory, () => openSync(path, 'wx+', 0o600))
    return {
      write(bytes, offset) {
        explained(directory, () => {
          for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at, bytes.length - at, offset + at)
        })
      },
      read(into, offset) {
        for (let at = 0; at < into.length;) {
          const count = readSync(fd, into, at, into.length - at, offset + at)
          if (count === 0)
            throw new MoonlinkError(
              'retry',
              'SPOOL_FAILED',
              `${path} ends before what was written to it; it is asked for again. Check its disk.`,
            )
          at += count
        }
      },
      remove() {
        closeSync(fd)
        rmSync(path, { force: true })
      },
    }
  }
}

function explained<T>(directory: string, use: () => T): T {
  try {
    return use()
  } catch (error) {
    throw spoolError(error, directory)
  }
}

/** Says why transactions in progress can't be kept on disk, and what to do about it. */
export function spoolError(error: unknown, directory: string): MoonlinkError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
  const isFull = code === 'ENOSPC' || code === 'EDQUOT'
  const remedy = isFull ? 'free space there, or raise source.spoolBytes' : 'see to it that this user can write there'
  return new MoonlinkError(
    'retry',
    isFull ? 'SPOOL_FULL' : 'SPOOL_FAILED',
    `transactions in progress do not fit into memory and can't be written to ${directory} (${code}): ${remedy}. They are asked for again until then.`,
    { context: { directory, errno: code }, cause: error },
  )
}
