import { formatTableName, maxLsn, type Lsn, type SourceEvent, type TableName } from '@moonlink/core'
import { BadValueError, TypeChangedError } from '../types/index.ts'
import { int32At, uint64At } from '../types/wire.ts'
import { readKeepalive, type Keepalive } from './keepalive.ts'
import { readLogicalMessage } from './logical-message.ts'
import { malformedMessage, MessageReader, timestampMsAt } from './message-reader.ts'
import { decodeState, encodeState } from './decoder-state.ts'
import { renamedTable } from './gone-table.ts'
import { HeldChanges } from './held-changes.ts'
import type { MirroredTable, Relation } from './mirrored-table.ts'
import { PartitionDescriptions } from './partition-descriptions.ts'
import type { PgoutputDecoderOptions } from './pgoutput-decoder-options.ts'
import type { RelationState, TableState } from './relation-state.ts'
import { describeMismatch, readRelation } from './relation.ts'
import { RelationDescriptions } from './relation-descriptions.ts'
import { oldFields, RowDecoder, RowRefusal } from './row-decoder.ts'
import type { ShapeQuestion } from './shape-question.ts'
import { DOUBTFUL_SUFFIX, type TableAlteration } from './table-alteration.ts'
import { BusyTables, TableChanges } from './table-changes.ts'
import { BEGIN_BYTES, COMMIT_BYTES, KEEPALIVE, Message, WAL, WAL_HEADER_BYTES } from './wal-message.ts'

const RESYNC_REMEDY = 'moonlink tables resync takes the table on as it is now'
const decodeText = new TextDecoder()
/** The least that a value which is left out takes once it is filled in: Postgres leaves out what is larger. */
const UNCHANGED_BYTES = 2048

/**
 * Turns CopyData payloads of a replication stream (pgoutput, proto_version 1, text and binary values) into source events.
 *
 * Feed it one payload at a time; it takes what it needs before it returns, so the payload's memory may be reused. `take` gives the
 * events of ended transactions: each table's batch, in the order in which tables were first changed, then a watermark. It may be
 * called in the middle of a transaction. Of a large one, it gives what is there once nothing of an ended one is left, without a
 * watermark; a table whose changes were all taken before their transaction ended then gets a batch with the mark and no changes.
 * What `take` returned is valid until the next `take`.
 *
 * Throws `corrupt`/`PGOUTPUT_MALFORMED` or `corrupt`/`VALUE_MALFORMED` for bytes that Postgres cannot have sent; the decoder is of
 * no use afterwards. A row that can't be mirrored closes its table by an event, and the other tables go on.
 *
 * Not promised: that strings are valid UTF-8 (a database in SQL_ASCII may hold anything).
 */
export class PgoutputDecoder {
  lastKeepalive: Keepalive | null = null
  /** How far the server is known to be. */
  sourceLsn: Lsn = 0n
  /** Every transaction that ends here or before was fed. */
  position: Lsn
  /** Transactions that end at or before this were fed already; the server may send them again, and then they are dropped. */
  repeatsThrough: Lsn = 0n
  /** Set where the message fed last was not taken: it must be fed again after the answer, before any other. */
  question: ShapeQuestion | null = null

  private readonly options: PgoutputDecoderOptions
  private readonly relations = new Map<number, RelationState | null>()
  private readonly descriptions = new RelationDescriptions()
  private readonly partitions: PartitionDescriptions
  private readonly tables = new Map<string, TableState>()
  /** Tables that were refused before anything was met of them. */
  private readonly refused = new Set<string>()
  private readonly held: HeldChanges
  private readonly busy = new BusyTables()
  private lastOid = -1
  private lastRelation: RelationState | null = null
  private touched: TableState[] = []
  private transaction = 0
  private xid = 0
  private isOpen = false
  private isRepeat = false
  private commitLsn: Lsn = 0n
  private lastEndLsn: Lsn = 0n
  private commitTimeMs: number | null = null
  private reportedPosition: Lsn
  private reportedSourceLsn: Lsn = 0n

  constructor(options: PgoutputDecoderOptions) {
    this.options = options
    this.partitions = new PartitionDescriptions(options.partitions ?? null)
    this.held = new HeldChanges(options.openTransactionBytes)
    this.position = this.reportedPosition = this.repeatsThrough = options.startLsn ?? 0n
  }

  /** Whether the last message lies within a transaction. */
  get inTransaction(): boolean {
    return this.isOpen
  }

  /** Whether `take` has something to give. */
  get hasNews(): boolean {
    return (this.isOpen && this.held.isOpenLarge) || this.held.hasEnded || this.hasMoved
  }

  /** Changes held. */
  get rowsBuffered(): number {
    return this.held.rows
  }

  /** Bytes of the messages that the held changes came in, and for each value left out the least that it will take. */
  get bytesBuffered(): number {
    return this.held.bytes
  }

  feed(payload: Uint8Array): void {
    switch (payload[0]) {
      case WAL:
        if (payload.length <= WAL_HEADER_BYTES) malformedMessage('a WAL message without content')
        return this.message(payload)
      case KEEPALIVE:
        return this.keepalive(payload)
      default:
        malformedMessage(`a payload of kind ${payload[0]}`)
    }
  }

  take(): SourceEvent[] {
    const events = this.held.takeEnded(this.isOpen)
    if (this.isOpen && events.length === 0 && this.position === this.reportedPosition) {
      return this.held.isOpenLarge ? this.held.takeOpen(this.commitLsn) : []
    }
    if (events.length > 0 || this.hasMoved) {
      events.push({ kind: 'watermark', lsn: this.position, sourceLsn: this.sourceLsn, commitTimeMs: this.commitTimeMs })
      this.reportedPosition = this.position
      this.reportedSourceLsn = this.sourceLsn
      this.commitTimeMs = null
    }
    return events
  }

  /** Whether no transaction at all is open: another decoder can go on from here with `exportState`. */
  get isCut(): boolean {
    return !this.isOpen
  }

  /** What a decoder must know to go on at the end of the last transaction: the source does not send it again. */
  exportState(): Uint8Array {
    return encodeState(this.descriptions.settled())
  }

  /** Takes over what another decoder knew. Before anything is fed. Throws `corrupt`/`PGOUTPUT_STATE`. */
  importState(state: Uint8Array): void {
    for (const relation of decodeState(state)) this.relation(relation, true)
  }

  /** Answers `question`: what became of the table up to the message that waits. */
  answer(alterations: readonly TableAlteration[]): void {
    const oid = this.question!.relation.oid
    this.question = null
    this.relations.set(oid, { ...this.relations.get(oid)!, isSettled: true })
    this.lastOid = -1
    for (const alteration of alterations) this.alter(alteration.kind === 'refuse' ? { ...alteration, isLate: true } : alteration)
  }

  /**
   * Asks `resolve` about the table anew, as after it was added, dropped or copied again; changes of it that are still held are
   * dropped. The rest of an open transaction counts, so `skipThrough` should cover what came of it before.
   */
  refresh(table: TableName): void {
    const name = formatTableName(table)
    const state = this.tables.get(name)
    this.refused.delete(name)
    if (state !== undefined) {
      state.isClosed = true
      state.changes.current.clear()
      this.tables.delete(name)
    }
    for (const relation of this.descriptions.named(table)) {
      this.relations.delete(relation.oid)
      this.relation(relation, true)
    }
  }

  /** Whether it is known to be further than `take` last said. */
  private get hasMoved(): boolean {
    return this.position > this.reportedPosition || this.sourceLsn > this.reportedSourceLsn
  }

  private message(payload: Uint8Array): void {
    switch (payload[WAL_HEADER_BYTES]) {
      case Message.insert:
      case Message.update:
      case Message.delete:
        return this.change(payload, payload[WAL_HEADER_BYTES])
      case Message.begin:
        return this.begin(payload)
      case Message.commit:
        return this.commit(payload)
      case Message.relation:
        return this.relation(readRelation(new MessageReader(payload, WAL_HEADER_BYTES + 1)))
      case Message.truncate:
        return this.truncate(new MessageReader(payload, WAL_HEADER_BYTES + 1))
      case Message.logical:
        return this.logicalMessage(payload)
      case Message.origin:
      case Message.type:
        return
      default:
        malformedMessage(`a message of type ${payload[WAL_HEADER_BYTES]}, which proto_version 1 does not have`)
    }
  }

  private keepalive(payload: Uint8Array): void {
    this.lastKeepalive = readKeepalive(payload)
    const { walEnd } = this.lastKeepalive
    this.sourceLsn = maxLsn(this.sourceLsn, walEnd)
    // Within a transaction the server's position says nothing about what was sent of it.
    if (!this.isOpen) this.position = maxLsn(this.position, walEnd)
  }

  private begin(payload: Uint8Array): void {
    if (payload.length !== BEGIN_BYTES) malformedMessage('a Begin of the wrong length')
    if (this.isOpen) malformedMessage('a Begin within a transaction')
    this.isOpen = true
    this.transaction++
    this.partitions.other()
    this.commitLsn = uint64At(payload, WAL_HEADER_BYTES + 1)
    this.xid = int32At(payload, WAL_HEADER_BYTES + 17) >>> 0
    this.isRepeat = this.commitLsn < this.repeatsThrough
  }

  private commit(payload: Uint8Array): void {
    if (payload.length !== COMMIT_BYTES) malformedMessage('a Commit of the wrong length')
    if (!this.isOpen) malformedMessage('a Commit outside of a transaction')
    const commitLsn = uint64At(payload, WAL_HEADER_BYTES + 2)
    const endLsn = uint64At(payload, WAL_HEADER_BYTES + 10)
    if (commitLsn !== this.commitLsn || endLsn <= commitLsn || (endLsn <= this.lastEndLsn && !this.isRepeat)) {
      malformedMessage(`a Commit at ${commitLsn} with end ${endLsn} for a Begin at ${this.commitLsn}`)
    }
    const commitTimeMs = timestampMsAt(payload, WAL_HEADER_BYTES + 18)
    for (const table of this.touched) {
      const isEmpty = table.isTruncated && !table.changes.current.hasOpen
      table.isTruncated = false
      if (table.isClosed) continue
      if (isEmpty) this.options.partitions?.emptied(table.mirrored.table, this.xid)
      table.changes.current.mark(endLsn, commitTimeMs)
      this.held.note(table)
    }
    this.touched.length = 0
    this.held.settle()
    this.isOpen = false
    this.descriptions.settle()
    this.lastEndLsn = maxLsn(this.lastEndLsn, endLsn)
    if (!this.isRepeat) this.commitTimeMs = commitTimeMs
    this.position = maxLsn(this.position, endLsn)
    this.sourceLsn = maxLsn(this.sourceLsn, endLsn)
  }

  /** `isKnown`: it was heard of before, and says nothing new. */
  private relation(relation: Relation, isKnown = false): void {
    const mirrored = this.options.resolve(relation)
    const before = this.relations.get(relation.oid) ?? null
    this.lastOid = -1
    this.descriptions.note(relation, this.isOpen)
    if (!isKnown) this.described(relation.oid, mirrored)
    if (before !== null && (mirrored === null || formatTableName(mirrored.table) !== formatTableName(before.table.mirrored.table))) {
      if (mirrored === null) return void this.relations.set(relation.oid, { ...before, rows: null, now: relation, isSettled: true })
      this.closeRenamed(before.table, relation)
    }
    if (mirrored === null) return void this.relations.set(relation.oid, null)
    const state = this.relationState(relation, this.tableState(mirrored))
    const fits = state.mismatch === null
    const isSettled = state.now !== null || (isKnown && fits) || this.options.asks?.(fits, mirrored.table) !== true
    this.relations.set(relation.oid, { ...state, isSettled })
  }

  private described(oid: number, mirrored: MirroredTable | null): void {
    this.partitions.relation(oid, mirrored?.table ?? null)
    // The rows are with those of a transaction that is prepared, and come later.
    if (!this.isOpen && mirrored === null) this.partitions.rows(this.position)
  }

  private relationState(relation: Relation, table: TableState, isSettled = true): RelationState {
    const mismatch = describeMismatch(relation, table.mirrored)
    const rows = mismatch === null ? new RowDecoder(relation, table.mirrored, table.changes) : null
    const isRenamed = formatTableName(relation) !== formatTableName(table.mirrored.table)
    return { table, rows, mismatch, now: isRenamed ? relation : null, isSettled: isSettled || isRenamed }
  }

  private tableState(mirrored: MirroredTable): TableState {
    const name = formatTableName(mirrored.table)
    const known = this.tables.get(name)
    if (known !== undefined) return known
    const changes = new TableChanges(mirrored.table, mirrored.schema.fields, oldFields(mirrored), this.busy)
    const state: TableState = {
      mirrored,
      changes,
      isClosed: this.refused.has(name),
      transaction: 0,
      skips: false,
      isDirty: false,
      isTruncated: false,
    }
    this.tables.set(name, state)
    return state
  }

  private change(payload: Uint8Array, type: number): void {
    if (!this.isOpen) malformedMessage('a change outside of a transaction')
    if (payload.length < WAL_HEADER_BYTES + 6) malformedMessage('a change is cut off')
    const relation = this.relationAt(payload, WAL_HEADER_BYTES + 1)
    if (relation === null || !this.enter(this.lastOid, relation)) return
    const rows = relation.rows!
    const at = WAL_HEADER_BYTES + 5
    try {
      if (type === Message.insert) rows.insert(payload, at, payload.length)
      else if (type === Message.update) rows.update(payload, at, payload.length)
      else rows.delete(payload, at, payload.length)
    } catch (error) {
      return this.refuse(relation, rows, payload, error)
    }
    this.held.add(relation.table, payload.length + rows.unchangedInRow * UNCHANGED_BYTES)
  }

  private relationAt(payload: Uint8Array, at: number): RelationState | null {
    const oid = int32At(payload, at) >>> 0
    if (oid === this.lastOid) return this.lastRelation
    this.partitions.rows(this.commitLsn)
    const relation = this.relations.get(oid)
    if (relation === undefined) malformedMessage(`a change of relation ${oid} before its Relation message`)
    this.lastOid = oid
    this.lastRelation = relation
    return relation
  }

  /** Whether a change of this relation is to be decoded now. Closes the table where its shape does not fit. */
  private enter(oid: number, relation: RelationState): boolean {
    const { mismatch, now, table } = relation
    if (!this.wants(table) || this.mustAsk(oid, relation)) return false
    if (now !== null) this.closeRenamed(table, now)
    else if (mismatch === null) return true
    else this.closeSchema(table, mismatch)
    return false
  }

  /** Whether the open transaction's changes of this table are wanted. */
  private wants(table: TableState): boolean {
    if (table.isClosed) return false
    this.touch(table)
    return !table.skips
  }

  private mustAsk(oid: number, { isSettled, table }: RelationState): boolean {
    if (isSettled) return false
    this.question = { table: table.mirrored.table, relation: this.descriptions.get(oid)!, xid: this.xid }
    return true
  }

  /** The open transaction changes the table. */
  private touch(table: TableState): void {
    if (table.transaction === this.transaction) return
    table.transaction = this.transaction
    table.skips = this.skipsOpenTransaction(table.mirrored.table)
    if (!table.skips) this.touched.push(table)
  }

  /** The end LSN is not known yet, but it lies behind the commit's LSN, and no transaction's record spans a consistent point. */
  private skipsOpenTransaction(table: TableName): boolean {
    const through = this.options.skipThrough?.(table)
    return this.isRepeat || (through !== undefined && this.commitLsn < through)
  }

  private logicalMessage(payload: Uint8Array): void {
    const { alterations } = this.options
    if (alterations === undefined) return
    const { content, isTransactional, prefix } = readLogicalMessage(payload, WAL_HEADER_BYTES + 1)
    const isDoubtful = prefix === `${alterations.prefix}${DOUBTFUL_SUFFIX}`
    if (!isTransactional || !this.isOpen || (!isDoubtful && prefix !== alterations.prefix)) return
    const skips = (table: TableName) => this.skipsOpenTransaction(table)
    for (const alteration of alterations.read(decodeText.decode(content), skips, isDoubtful)) this.alter(alteration)
  }

  private alter(alteration: TableAlteration): void {
    if (alteration.kind === 'refuse') {
      const { code, isLate, reason, table } = alteration
      const event = { kind: 'unmirrorable', table, code, reason, openLsn: isLate === true ? undefined : this.commitLsn } as const
      const state = this.tables.get(formatTableName(table))
      if (state !== undefined) return this.close(state, event)
      this.refused.add(formatTableName(table))
      return this.held.push(event)
    }
    const { mirrored } = alteration
    const { schema, sourceState = null, table } = mirrored
    const state = this.tableState(mirrored)
    if (state.isClosed) return
    this.touch(state)
    if (alteration.kind === 'stale') {
      // Who truncates the table truncates each of its partitions.
      if (!state.isTruncated || state.changes.current.hasOpen) this.outdate(state, alteration.reason)
      return
    }
    this.held.flush(state, this.commitLsn)
    if (alteration.stale !== null) this.outdate(state, alteration.stale)
    this.held.push({ kind: 'schema', table, shape: { schema, sourceState }, openLsn: this.commitLsn })
    state.mirrored = mirrored
    state.changes = new TableChanges(table, schema.fields, oldFields(mirrored), this.busy)
    // The next Relation message fits; until it comes, what the last one said may do.
    for (const [oid, relation] of this.relations) {
      if (relation?.table !== state) continue
      this.relations.set(oid, this.relationState(this.descriptions.get(oid)!, state, relation.isSettled))
    }
    this.lastOid = -1
  }

  /** From here on, only a new copy shows its rows. */
  private outdate(state: TableState, reason: string): void {
    this.held.flush(state, this.commitLsn)
    const { table } = state.mirrored
    this.held.push({ kind: 'recopy', table, code: 'SCHEMA_CHANGED', reason: `${reason}; ${RESYNC_REMEDY}`, openLsn: this.commitLsn })
  }

  private refuse(relation: RelationState, rows: RowDecoder, payload: Uint8Array, error: unknown): void {
    const { table } = relation
    const located = this.undo(table, () => (error instanceof BadValueError ? rows.locate(error, payload) : error))
    if (located instanceof TypeChangedError) this.closeSchema(table, located.message)
    else if (located instanceof RowRefusal && located.kind === 'schema') this.closeSchema(table, located.message)
    else if (located instanceof BadValueError || located instanceof RowRefusal) {
      const { code, message } = located
      this.close(table, { kind: 'unmirrorable', table: table.mirrored.table, code, reason: message, openLsn: this.commitLsn })
    } else throw located
  }

  /** Takes back half a row, even if describing what is wrong with it finds its rest malformed. */
  private undo(table: TableState, describe: () => unknown): unknown {
    try {
      return describe()
    } finally {
      table.changes.current.undo()
    }
  }

  private closeSchema(table: TableState, reason: string): void {
    this.close(table, { kind: 'unmirrorable', table: table.mirrored.table, code: 'SCHEMA_CHANGED', reason: `${reason}; ${RESYNC_REMEDY}` })
  }

  private closeRenamed(table: TableState, { name, schema }: TableName): void {
    this.close(table, { kind: 'unmirrorable', ...renamedTable(table.mirrored.table, { name, schema }) })
  }

  private close(table: TableState, event: SourceEvent): void {
    if (table.isClosed) return
    this.held.flush(table, this.commitLsn)
    this.held.push(event)
    table.isClosed = true
  }

  private truncate(reader: MessageReader): void {
    if (!this.isOpen) malformedMessage('a Truncate outside of a transaction')
    const count = reader.int32()
    reader.byte()
    if (count < 0 || count * 4 !== reader.remaining) malformedMessage(`a Truncate of ${count} relations`)
    const oids = Array.from({ length: count }, () => reader.oid())
    for (const oid of oids) {
      const relation = this.relations.get(oid)
      if (relation === undefined) malformedMessage(`a Truncate of relation ${oid} before its Relation message`)
      if (relation !== null && this.wants(relation.table) && this.mustAsk(oid, relation)) return
    }
    this.partitions.other()
    const tables: TableName[] = []
    for (const oid of oids) {
      const relation = this.relations.get(oid)!
      if (relation === null || !this.enter(oid, relation)) continue
      this.held.flush(relation.table, this.commitLsn)
      relation.table.isTruncated = true
      tables.push(relation.table.mirrored.table)
    }
    if (tables.length > 0) this.held.push({ kind: 'truncate', tables, openLsn: this.commitLsn })
  }
}
