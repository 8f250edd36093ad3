import type { SpoolFile, SpoolFiles } from './spool-files.ts'

/** Spool files that are not files. */
export class MemorySpoolFiles implements SpoolFiles {
  /** Files that are there. */
  count = 0
  /** Bytes written, to all. */
  written = 0

  create(): SpoolFile {
    this.count++
    let content = Buffer.alloc(0)
    return {
      write: (bytes, offset) => {
        if (offset > content.length) throw new RangeError(`a gap at ${content.length}`)
        content = Buffer.concat([content.subarray(0, offset), bytes, content.subarray(offset + bytes.length)])
        this.written += bytes.length
      },
      read: (into, offset) => {
        if (offset + into.length > content.length) throw new RangeError(`a read behind ${content.length}`)
        into.set(content.subarray(offset, offset + into.length))
      },
      remove: () => {
        this.count--
      },
    }
  }
}
