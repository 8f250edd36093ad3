import { isMoonlinkError } from '@moonlink/core'
import { damaged, damages, fuzzing } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { MemorySpoolFiles } from './memory-spool-files.test.support.ts'
import type { SpoolFile, SpoolFiles } from './spool-files.ts'
import { SpooledTransaction } from './spooled-transaction.ts'

const XID = 100

/** Files that are damaged after each write. */
class DamagedFiles implements SpoolFiles {
  private readonly whole = new MemorySpoolFiles()
  private readonly damage: (bytes: Uint8Array) => Uint8Array

  constructor(damage: (bytes: Uint8Array) => Uint8Array) {
    this.damage = damage
  }

  create(): SpoolFile {
    const file = this.whole.create()
    return { ...file, write: (bytes, offset) => file.write(this.damage(bytes), offset) }
  }
}

/** Three subtransactions, some of it in the file, the last taken back. */
function played(files: SpoolFiles): SpooledTransaction {
  const transaction = new SpooledTransaction(XID, files)
  for (let message = 0; message < 30; message++) {
    transaction.append(XID + Math.floor(message / 10), 0x49, new Uint8Array(5).fill(message))
    if (message % 7 === 6) transaction.spill()
  }
  transaction.abortSubtransaction(XID + 2)
  transaction.append(XID, 0x49, new Uint8Array(5).fill(30))
  transaction.spill()
  return transaction
}

function read(transaction: SpooledTransaction): number[] {
  const reader = transaction.read()
  const messages: number[] = []
  while (reader.next()) messages.push(reader.bytes[reader.end - 1])
  return messages
}

const expected = [...Array.from({ length: 20 }, (_, index) => index), 30]

test('a transaction that is partly in the file is what was written, less what was taken back', () => {
  expect(read(played(new MemorySpoolFiles()))).toEqual(expected)
})

test('what was damaged on disk is asked for again, never taken for something else', () => {
  let refused = 0
  fc.assert(
    fc.property(damages, fc.nat(5), (what, which) => {
      let writes = 0
      // As long as it was: a file that ends early is the file's to tell.
      const damage = (bytes: Uint8Array) =>
        writes++ === which ? Buffer.concat([damaged(bytes, what), bytes]).subarray(0, bytes.length) : bytes
      try {
        expect(read(played(new DamagedFiles(damage)))).toEqual(expected)
      } catch (error) {
        if (!isMoonlinkError(error, 'retry')) throw error
        refused++
      }
    }),
    fuzzing(500),
  )
  expect(refused).toBeGreaterThan(100)
})
