import { closeSync, mkdirSync, openSync, readdirSync, readSync, rmSync, unlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'

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

/** Spool files in a directory of their own. What an earlier process left there is removed: the source sends it again. */
export class LocalSpoolFiles implements SpoolFiles {
  private readonly directory: string
  private next = 1

  constructor(directory: string) {
    this.directory = directory
    mkdirSync(directory, { recursive: true })
    for (const name of readdirSync(directory)) if (name.endsWith(SUFFIX)) rmSync(join(directory, name), { force: true })
  }

  create(): SpoolFile {
    const path = join(this.directory, `${process.pid}-${this.next++}${SUFFIX}`)
    const fd = openSync(path, 'wx+', 0o600)
    return {
      write(bytes, offset) {
        for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at, bytes.length - at, offset + at)
      },
      read(into, offset) {
        for (let at = 0; at < into.length;) {
          const count = readSync(fd, into, at, into.length - at, offset + at)
          if (count === 0) throw new Error(`${path} ends at ${offset + at}`)
          at += count
        }
      },
      remove() {
        closeSync(fd)
        unlinkSync(path)
      },
    }
  }
}
