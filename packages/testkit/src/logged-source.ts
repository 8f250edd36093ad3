import type { ChangeLog, Lsn } from '@moonlink/core'
import { expect } from 'vitest'

interface Ended {
  readonly lsn: Lsn
  /** Its frames, in the order in which they were sent. */
  readonly frames: readonly string[]
}

/**
 * A source whose frames are lines of text: `T id …` within the transaction `id`, `E id lsn` at its end, `M lsn` where nothing is open but nothing ended
 * either. Transactions may be interleaved, as streamed ones are. Knows what a replay must give.
 */
export class LoggedSource {
  private ended: Ended[] = []
  /** Streamed transactions in progress. */
  private readonly streams = new Map<number, string[]>()
  private plain: { id: number; frames: string[] } | null = null
  private lastId = 0
  endLsn: Lsn

  constructor(startLsn: Lsn) {
    this.endLsn = startLsn
  }

  /** End LSN of each transaction so far. */
  get lsns(): readonly Lsn[] {
    return this.ended.map(({ lsn }) => lsn)
  }

  /** A session from `endLsn` on: what is in progress is sent again from its begin, where it goes on. */
  async begin(log: ChangeLog): Promise<void> {
    this.plain = null
    this.streams.clear()
    await log.begin(this.endLsn, () => Buffer.from(`after ${this.endLsn}`))
  }

  /** Sends a whole transaction. */
  transaction(log: ChangeLog, changes: number): void {
    this.openTransaction(log, changes)
    this.closeTransaction(log)
  }

  openTransaction(log: ChangeLog, changes: number): void {
    this.plain = { id: ++this.lastId, frames: [] }
    for (let index = 0; index <= changes; index++) this.send(log, this.plain.frames, `T ${this.plain.id} change ${index}`)
  }

  closeTransaction(log: ChangeLog): void {
    const { id, frames } = this.plain!
    this.plain = null
    this.end(log, id, frames)
  }

  /** Sends more of a transaction that is streamed before it ends, or begins one. */
  stream(log: ChangeLog, changes: number): void {
    const id = changes % 2 === 0 && this.streams.size > 0 ? [...this.streams.keys()][0] : ++this.lastId
    const frames = this.streams.get(id) ?? []
    this.streams.set(id, frames)
    for (let index = 0; index < changes; index++) this.send(log, frames, `T ${id} streamed ${frames.length}`)
    // Between two transactions, although this one is in progress.
    this.mark(log)
  }

  endStream(log: ChangeLog, changes: number): void {
    const ids = [...this.streams.keys()]
    if (ids.length === 0) return
    const id = ids[changes % ids.length]
    const frames = this.streams.get(id)!
    this.streams.delete(id)
    this.end(log, id, frames)
  }

  /** The source says where it is, between two transactions. */
  mark(log: ChangeLog): void {
    log.append(frame(`M ${this.endLsn}`), this.endLsn, this.isCut)
  }

  /** The source goes on without the log. */
  skip(bytes: Lsn): void {
    this.endLsn += bytes
  }

  /** What came after `lsn` did not reach the log: the source sends other transactions instead. */
  rewind(lsn: Lsn): void {
    this.ended = this.ended.filter((transaction) => transaction.lsn <= lsn)
    this.endLsn = lsn
  }

  /** A replay gives whole transactions, and of those that end in `(after, through]` each one, in order. */
  async expectReplay(log: ChangeLog, after: Lsn, through: Lsn = this.endLsn): Promise<void> {
    const replayed: Ended[] = []
    const open = new Map<string, string[]>()
    let isFirst = true
    for await (const entry of log.replay(after)) {
      if (entry.kind === 'state') {
        expect(isFirst).toBe(true)
        expect(BigInt(Buffer.from(entry.bytes).toString().split(' ')[1])).toBeLessThanOrEqual(after)
      } else if (entry.kind === 'session') open.clear()
      else for (const line of lines(entry.bytes)) apply(line, open, replayed)
      isFirst = false
    }
    const expected = this.ended.filter(({ lsn }) => lsn <= through)
    const first = expected.findIndex(({ lsn }) => lsn === replayed[0]?.lsn)
    expect(replayed).toEqual(first < 0 ? [] : expected.slice(first))
    if (first !== 0 && expected.length > 0) expect(expected.at(first < 0 ? -1 : first - 1)!.lsn).toBeLessThanOrEqual(after)
  }

  private get isCut(): boolean {
    return this.streams.size === 0
  }

  private end(log: ChangeLog, id: number, frames: string[]): void {
    this.endLsn += 10n
    const line = `E ${id} ${this.endLsn}`
    this.ended.push({ lsn: this.endLsn, frames })
    log.append(frame(line), this.endLsn, this.isCut)
  }

  private send(log: ChangeLog, frames: string[], line: string): void {
    frames.push(line)
    log.append(frame(line), null, false)
  }
}

function apply(line: string, open: Map<string, string[]>, replayed: Ended[]): void {
  const [kind, id, lsn] = line.split(' ')
  if (kind === 'M') return
  if (kind === 'E') {
    replayed.push({ lsn: BigInt(lsn), frames: open.get(id) ?? [] })
    open.delete(id)
    return
  }
  if (!open.has(id)) open.set(id, [])
  open.get(id)!.push(line)
}

function frame(line: string): Uint8Array {
  return Buffer.from(`${line}\n`)
}

function lines(bytes: Uint8Array): string[] {
  return Buffer.from(bytes).toString().trimEnd().split('\n')
}
