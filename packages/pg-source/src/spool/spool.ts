import { SpooledTransaction } from './spooled-transaction.ts'
import type { SpoolFiles } from './spool-files.ts'

/** Transactions in progress, by whatever names them. Together they take about `limitBytes` of memory; the rest is in files. */
export class Spool<Key> {
  private readonly transactions = new Map<Key, SpooledTransaction>()
  private readonly files: SpoolFiles | null
  private readonly limitBytes: number
  private held = 0

  constructor(files: SpoolFiles | null, limitBytes: number) {
    this.files = files
    this.limitBytes = limitBytes
  }

  get size(): number {
    return this.transactions.size
  }

  get memoryBytes(): number {
    return this.held
  }

  get(key: Key): SpooledTransaction | undefined {
    return this.transactions.get(key)
  }

  /** A new transaction in the place of whatever had that key. */
  start(key: Key, xid: number): SpooledTransaction {
    this.drop(key)
    const transaction = new SpooledTransaction(xid, this.files)
    this.transactions.set(key, transaction)
    return transaction
  }

  append(transaction: SpooledTransaction, subxid: number, type: number, body: Uint8Array): void {
    const before = transaction.memoryBytes
    transaction.append(subxid, type, body)
    this.held += transaction.memoryBytes - before
    while (this.files !== null && this.held > this.limitBytes && this.spillLargest());
  }

  abortSubtransaction(transaction: SpooledTransaction, subxid: number): void {
    const before = transaction.memoryBytes
    transaction.abortSubtransaction(subxid)
    this.held += transaction.memoryBytes - before
  }

  /** Hands a transaction out, to be read and removed by the caller. */
  take(key: Key): SpooledTransaction | undefined {
    const transaction = this.transactions.get(key)
    if (transaction === undefined) return undefined
    this.transactions.delete(key)
    this.held -= transaction.memoryBytes
    return transaction
  }

  /** Gives a transaction another key, in the place of whatever had that. False where there is none. */
  rename(from: Key, to: Key): boolean {
    const transaction = this.transactions.get(from)
    if (transaction === undefined) return false
    this.drop(to)
    this.transactions.delete(from)
    this.transactions.set(to, transaction)
    return true
  }

  drop(key: Key): void {
    this.take(key)?.remove()
  }

  clear(): void {
    for (const transaction of this.transactions.values()) transaction.remove()
    this.transactions.clear()
    this.held = 0
  }

  private spillLargest(): boolean {
    let largest: SpooledTransaction | null = null
    for (const transaction of this.transactions.values()) {
      if (transaction.memoryBytes > (largest?.memoryBytes ?? 0)) largest = transaction
    }
    if (largest === null) return false
    this.held -= largest.memoryBytes
    largest.spill()
    this.held += largest.memoryBytes
    return largest.memoryBytes === 0
  }
}
