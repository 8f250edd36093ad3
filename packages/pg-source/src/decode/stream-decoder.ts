import { MoonlinkError, type Lsn, type SourceEvent, type TableName } from '@moonlink/core'
import { Spool, type SpooledTransaction, type SpoolFiles } from '../spool/index.ts'
import { int32At } from '../types/wire.ts'
import { readKeepalive, type Keepalive } from './keepalive.ts'
import { encodeLogicalMessage, readLogicalMessage } from './logical-message.ts'
import { malformedMessage, MessageReader } from './message-reader.ts'
import { PgoutputDecoder } from './pgoutput-decoder.ts'
import type { PgoutputDecoderOptions } from './pgoutput-decoder-options.ts'
import { PreparedHolds } from './prepared-holds.ts'
import { readRelation } from './relation.ts'
import { Replay } from './replay.ts'
import type { ShapeQuestion } from './shape-question.ts'
import {
  readBeginPrepare,
  readCommitPrepared,
  readPrepare,
  readRollbackPrepared,
  readStreamAbort,
  readStreamCommit,
  readStreamStart,
  StreamMessage,
  type CommitPoint,
  type PreparePoint,
} from './stream-messages.ts'
import { DOUBTFUL_SUFFIX, type TableAlteration } from './table-alteration.ts'
import { KEEPALIVE, Message, WAL, WAL_HEADER_BYTES } from './wal-message.ts'

export interface StreamDecoderOptions extends PgoutputDecoderOptions {
  /** Where transactions in progress go that do not fit into `spoolMemoryBytes`. Default: they stay in memory. */
  readonly spoolFiles?: SpoolFiles
  /** Memory for transactions in progress. Default 32 MiB. */
  readonly spoolMemoryBytes?: number
}

/** What else is known of a transaction in progress, besides what is spooled of it. */
interface InProgress {
  /** What it has said of relations: whether they are mirrored. */
  readonly wanted: Map<number, boolean>
  /** Bodies of its messages about schema changes. */
  readonly alterations: Uint8Array[]
}

/** The block of a transaction in progress, or the prepared transaction, that the last message lies in. */
interface Current {
  readonly spooled: SpooledTransaction
  readonly of: InProgress | PreparePoint
}

/** In a backlog: a new session begins here. */
const SESSION = Symbol('session')
const DEFAULT_SPOOL_MEMORY_BYTES = 32 * 1024 * 1024

/**
 * Turns everything that a replication stream sends (pgoutput, proto_version 1 to 4) into source events: see `PgoutputDecoder`, which
 * decodes one committed transaction after the other. Transactions in progress, interleaved as the server sends them, and prepared
 * ones are spooled until they commit, less what was rolled back of them; then `take` gives them in parts. What is fed meanwhile waits.
 *
 * So a consumer sees transactions in the order of their commits, whatever the server streams. It must not feed on while
 * `bytesBuffered` is more than it wants to hold: what a replay has left to decode is part of that.
 */
export class StreamDecoder {
  lastKeepalive: Keepalive | null = null
  private readonly options: StreamDecoderOptions
  private readonly inner: PgoutputDecoder
  private readonly spool: Spool<string>
  private readonly inProgress = new Map<number, InProgress>()
  private readonly holds = new PreparedHolds()
  private current: Current | null = null
  private replay: Replay | null = null
  /** What was fed during a replay, or while a question was open: then the message that asks is the first. */
  private backlog: (Uint8Array | typeof SESSION)[] = []
  private backlogBytes = 0

  constructor(options: StreamDecoderOptions) {
    this.options = options
    this.inner = new PgoutputDecoder(options)
    this.spool = new Spool(options.spoolFiles ?? null, options.spoolMemoryBytes ?? DEFAULT_SPOOL_MEMORY_BYTES)
  }

  /** How far the server is known to be. */
  get sourceLsn(): Lsn {
    return this.inner.sourceLsn
  }

  /** Whether the last message lies within a transaction, or a transaction is being decoded from its spool. */
  get inTransaction(): boolean {
    return this.replay !== null || this.current !== null || this.inner.inTransaction
  }

  /** Whether a committed transaction is being decoded from its spool: `take` goes on with it. */
  get isReplaying(): boolean {
    return this.replay !== null
  }

  /** Whether what is fed waits to be decoded, for an answer or a replay. */
  get isHeldBack(): boolean {
    return this.replay !== null || this.question !== null
  }

  /** What somebody has to `answer` before anything more is decoded. */
  get question(): ShapeQuestion | null {
    return this.inner.question
  }

  /** Whether `take` has something to give. */
  get hasNews(): boolean {
    return (this.replay !== null && this.question === null) || this.inner.hasNews
  }

  /** Changes held, without those in spools. */
  get rowsBuffered(): number {
    return this.inner.rowsBuffered
  }

  /** Bytes that wait for `take`: held changes, and what is left of a replay and what was fed during it. */
  get bytesBuffered(): number {
    return this.inner.bytesBuffered + this.backlogBytes + (this.replay?.leftBytes ?? 0)
  }

  /** Transactions in progress, and prepared ones. */
  get spooledCount(): number {
    return this.spool.size
  }

  /** Every transaction that ends here or before was fed. */
  get position(): Lsn {
    return this.inner.position
  }

  /** Whether no transaction at all is open, in progress or prepared: another decoder can go on from here with `exportState`. */
  get isCut(): boolean {
    return !this.inTransaction && this.spool.size === 0
  }

  /** See `PgoutputDecoder.exportState`. */
  exportState(): Uint8Array {
    return this.inner.exportState()
  }

  /** See `PgoutputDecoder.importState`. */
  importState(state: Uint8Array): void {
    this.inner.importState(state)
  }

  /**
   * A new session with the server begins: it sends transactions in progress from their beginning, prepared ones it was not told of, and
   * perhaps some again that ended before `position`.
   */
  beginSession(): void {
    // What was fed before belongs to the session before, and waits for the replay too.
    if (this.isHeldBack) return void this.backlog.push(SESSION)
    for (const xid of this.inProgress.keys()) this.spool.drop(streamKey(xid))
    this.inProgress.clear()
    this.current = null
    this.inner.repeatsThrough = this.inner.position
  }

  /**
   * What the server may be told of when `durable` is safe: it sends a prepared transaction only once, so nothing after its prepare may
   * be acknowledged before its commit is safe.
   */
  acknowledgeable(durable: Lsn): Lsn {
    return this.holds.acknowledgeable(durable)
  }

  feed(payload: Uint8Array): void {
    if (payload[0] === KEEPALIVE) this.lastKeepalive = readKeepalive(payload)
    if (!this.isHeldBack) {
      this.feedNow(payload)
      if (this.question === null) return
    }
    this.backlog.push(Buffer.from(payload))
    this.backlogBytes += payload.length
  }

  /** Answers `question` and goes on, until there is another. */
  answer(alterations: readonly TableAlteration[]): void {
    this.inner.answer(alterations)
    if (this.replay === null) this.feedBacklog()
  }

  /** See `PgoutputDecoder.take`. */
  take(): SourceEvent[] {
    let events = this.inner.take()
    while (events.length === 0 && this.replay !== null && this.question === null) {
      this.goOn(this.replay)
      events = this.inner.take()
    }
    return events
  }

  /** See `PgoutputDecoder.refresh`. */
  refresh(table: TableName): void {
    this.inner.refresh(table)
  }

  /** Gives the spools' memory and files back. Nothing may be fed afterwards. */
  close(): void {
    this.spool.clear()
    this.replay?.remove()
    this.replay = null
  }

  private feedNow(payload: Uint8Array): void {
    if (payload[0] !== WAL || payload.length <= WAL_HEADER_BYTES) return this.inner.feed(payload)
    const at = WAL_HEADER_BYTES + 1
    switch (payload[WAL_HEADER_BYTES]) {
      case StreamMessage.start:
        return this.streamStart(payload, at)
      case StreamMessage.stop:
        return this.streamStop(payload)
      case StreamMessage.commit:
        return this.streamCommit(readStreamCommit(payload, at))
      case StreamMessage.abort:
        return this.streamAbort(readStreamAbort(payload, at))
      case StreamMessage.beginPrepare:
        return this.beginPrepare(readBeginPrepare(payload, at))
      case StreamMessage.prepare:
        return this.endPrepare(readPrepare(payload, at))
      case StreamMessage.streamPrepare:
        return this.streamPrepare(readPrepare(payload, at))
      case StreamMessage.commitPrepared:
        return this.commitPrepared(readCommitPrepared(payload, at))
      case StreamMessage.rollbackPrepared:
        return this.rollbackPrepared(readRollbackPrepared(payload, at))
      default:
        if (this.current === null) this.inner.feed(payload)
        else if (isPrepared(this.current.of)) this.spoolPrepared(this.current.spooled, payload)
        else this.spoolStreamed(this.current.spooled, this.current.of, payload)
    }
  }

  private streamStart(payload: Uint8Array, at: number): void {
    this.refuseWithin('a Stream Start')
    const { xid, isFirst } = readStreamStart(payload, at)
    // A server that begins again, after a lost connection, begins again with each transaction.
    if (isFirst || this.spool.get(streamKey(xid)) === undefined) {
      this.spool.start(streamKey(xid), xid)
      this.inProgress.set(xid, { wanted: new Map(), alterations: [] })
    }
    this.current = { spooled: this.spool.get(streamKey(xid))!, of: this.inProgress.get(xid)! }
  }

  private streamStop(payload: Uint8Array): void {
    if (payload.length !== WAL_HEADER_BYTES + 1) malformedMessage('a Stream Stop of the wrong length')
    if (this.current === null || isPrepared(this.current.of)) malformedMessage('a Stream Stop without a Stream Start')
    this.current = null
  }

  /** A message of a transaction in progress: its type is followed by the subtransaction it belongs to. */
  private spoolStreamed(spooled: SpooledTransaction, inProgress: InProgress, payload: Uint8Array): void {
    const type = payload[WAL_HEADER_BYTES]
    const at = WAL_HEADER_BYTES + 5
    if (type === Message.type || type === Message.origin) return
    if (type === Message.logical) return this.spoolLogical(spooled, inProgress, payload, at)
    if (payload.length < at + 4) malformedMessage('a message of a transaction in progress is cut off')
    const subxid = int32At(payload, WAL_HEADER_BYTES + 1) >>> 0
    if (type === Message.relation) {
      const relation = readRelation(new MessageReader(payload, at))
      inProgress.wanted.set(relation.oid, this.options.resolve(relation) !== null)
    } else if (type === Message.insert || type === Message.update || type === Message.delete) {
      if (inProgress.wanted.get(int32At(payload, at) >>> 0) === false) return
    } else if (type !== Message.truncate) malformedMessage(`a message of type ${type} in a transaction in progress`)
    this.spool.append(spooled, subxid, type, payload.subarray(at))
  }

  /** Of the logical messages, those about schema changes are kept. */
  private spoolLogical(spooled: SpooledTransaction, { alterations }: InProgress, payload: Uint8Array, at: number): void {
    if (readLogicalMessage(payload, at).prefix !== this.options.alterations?.prefix) return
    const body = Buffer.from(payload.subarray(at))
    alterations.push(body)
    this.spool.append(spooled, spooled.xid, Message.logical, body)
  }

  /**
   * The server names the top-level transaction for such messages, whichever subtransaction wrote them. So where one was rolled back after the first of
   * them, it is not known which of them count.
   */
  private doubtAlterations(spooled: SpooledTransaction): void {
    const prefix = this.options.alterations?.prefix
    if (prefix === undefined) return
    for (const body of this.inProgress.get(spooled.xid)?.alterations ?? []) {
      const { content } = readLogicalMessage(body, 0)
      this.spool.append(spooled, spooled.xid, Message.logical, encodeLogicalMessage(`${prefix}${DOUBTFUL_SUFFIX}`, content))
    }
  }

  private streamCommit(commit: CommitPoint): void {
    this.refuseWithin('a Stream Commit')
    this.inProgress.delete(commit.xid)
    const spooled = this.spool.take(streamKey(commit.xid))
    if (spooled === undefined) malformedMessage(`a Stream Commit of transaction ${commit.xid}, which was never streamed`)
    this.replay = new Replay(this.inner, spooled, commit)
  }

  private streamAbort({ xid, subxid }: { readonly xid: number; readonly subxid: number }): void {
    this.refuseWithin('a Stream Abort')
    if (xid === subxid) {
      this.inProgress.delete(xid)
      return this.spool.drop(streamKey(xid))
    }
    const spooled = this.spool.get(streamKey(xid))
    if (spooled === undefined) return
    this.spool.abortSubtransaction(spooled, subxid)
    this.doubtAlterations(spooled)
  }

  private beginPrepare(prepare: PreparePoint): void {
    this.refuseWithin('a Begin Prepare')
    this.current = { spooled: this.spool.start(preparedKey(prepare.gid), prepare.xid), of: prepare }
    this.holds.prepared(prepare)
  }

  private spoolPrepared(spooled: SpooledTransaction, payload: Uint8Array): void {
    const type = payload[WAL_HEADER_BYTES]
    if (type === Message.type || type === Message.origin) return
    if (type === Message.logical) {
      if (readLogicalMessage(payload, WAL_HEADER_BYTES + 1).prefix !== this.options.alterations?.prefix) return
      return this.spool.append(spooled, spooled.xid, type, payload.subarray(WAL_HEADER_BYTES + 1))
    }
    // The server does not send it again for the transactions after this one, which may commit before it. Locks keep them from any
    // table that this one has altered.
    if (type === Message.relation) return this.inner.feed(payload)
    const isChange = type === Message.insert || type === Message.update || type === Message.delete || type === Message.truncate
    if (!isChange) malformedMessage(`a message of type ${type} in a transaction that is being prepared`)
    this.spool.append(spooled, spooled.xid, type, payload.subarray(WAL_HEADER_BYTES + 1))
  }

  private endPrepare(prepare: PreparePoint): void {
    const { gid, prepareLsn } = prepare
    // All that Postgres 18 says of one that changed nothing (`ReorderBufferPrepare`, src/backend/replication/logical/reorderbuffer.c).
    if (this.current === null) this.beginPrepare(prepare)
    const begun = this.current?.of
    if (begun === undefined || !isPrepared(begun) || begun.gid !== gid || begun.prepareLsn !== prepareLsn)
      malformedMessage('a Prepare without its Begin Prepare')
    this.current = null
  }

  private streamPrepare(prepare: PreparePoint): void {
    const { gid, xid } = prepare
    this.refuseWithin('a Stream Prepare')
    this.inProgress.delete(xid)
    if (!this.spool.rename(streamKey(xid), preparedKey(gid))) {
      malformedMessage(`a Stream Prepare of transaction ${xid}, which was never streamed`)
    }
    this.holds.prepared(prepare)
  }

  private commitPrepared(commit: CommitPoint & { readonly gid: string }): void {
    this.refuseWithin('a Commit Prepared')
    const { gid } = commit
    const spooled = this.spool.take(preparedKey(gid))
    this.holds.committed(commit, commit.endLsn)
    if (spooled === undefined) {
      // One that the server says again was decoded before.
      if (commit.commitLsn < this.inner.repeatsThrough) return
      throw new MoonlinkError(
        'invalid',
        'PG_PREPARED_LOST',
        `prepared transaction "${gid}" committed, and its changes are not here: they were acknowledged to the source before, or it does not send them any more. The tables have to be made equal to the source.`,
        { context: { gid } },
      )
    }
    this.replay = new Replay(this.inner, spooled, commit)
  }

  private rollbackPrepared(prepared: { readonly gid: string; readonly xid: number }): void {
    this.refuseWithin('a Rollback Prepared')
    this.holds.rolledBack(prepared)
    this.spool.drop(preparedKey(prepared.gid))
  }

  private refuseWithin(what: string): void {
    if (this.current !== null || this.inner.inTransaction) malformedMessage(`${what} within a transaction`)
  }

  /** Decodes a part of a replay; at its end, what was fed meanwhile. */
  private goOn(replay: Replay): void {
    if (!replay.decodePart()) return
    this.replay = null
    replay.end()
    this.feedBacklog()
  }

  /** Feeds what waits, until a replay or a question makes the rest wait again. */
  private feedBacklog(): void {
    const waiting = this.backlog
    this.backlog = []
    for (let index = 0; index < waiting.length; index++) {
      const next = waiting[index]
      if (next === SESSION) this.beginSession()
      else {
        this.feedNow(next)
        if (this.question !== null) return void (this.backlog = waiting.slice(index))
        this.backlogBytes -= next.length
      }
      if (this.replay !== null) return void (this.backlog = waiting.slice(index + 1))
    }
  }
}

function streamKey(xid: number): string {
  return `x${xid}`
}

function preparedKey(gid: string): string {
  return `g${gid}`
}

function isPrepared(of: InProgress | PreparePoint): of is PreparePoint {
  return 'gid' in of
}
