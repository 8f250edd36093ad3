import {
  assert,
  formatLsn,
  formatTableName,
  isMoonlinkError,
  MoonlinkError,
  stringifyJsonLossless,
  type Clock,
  type Field,
  type JsonValue,
  type Logger,
  type Lsn,
  type TableName,
  type TableShape,
} from '@moonlink/core'
import type { FieldSource } from '@moonlink/pg-source'
import type { SourceSnapshot } from '../service/parts.ts'
import type { RunningQuery } from '../service/running-query.ts'
import { mirrorDialect, mirrorText, quoteIdentifier, sourceDialect } from './canonical.ts'
import { bucketCount, bucketRows, bucketSums, qualified, type TableSide } from './checksum-sql.ts'
import { sourceFieldText } from './source-text.ts'
import { addSums, countRows, differingBuckets, differingRows, type RowDifference } from './compare.ts'

export interface VerifierParts {
  readonly openSnapshot: () => Promise<SourceSnapshot>
  /** SQL over the union read at an LSN; waits until that is applied. */
  readonly query: (sql: string, lsn: Lsn, timeoutMs: number) => Promise<RunningQuery>
  /** The shape that the mirror of a table shows at an LSN that is held, or that it has now where none is given. */
  readonly shape: (table: TableName, lsn?: Lsn) => TableShape
  /** Tells the source's present state of a table from any other that its rows could look otherwise in. */
  readonly sourceMark: (table: TableName, shape: TableShape) => Promise<string | null>
  /** Where each field of a mirrored table of this shape comes from, by its id. */
  readonly fieldSources: (table: TableName, shape: TableShape) => ReadonlyMap<number, FieldSource>
  /** The condition that the source's rows fulfil to be mirrored; null where all are. */
  readonly rowFilter: (table: TableName, snapshot: SourceSnapshot) => Promise<string | null>
  readonly clock: Clock
  /** Time that nobody can set. Default: of this process. */
  readonly monotonicMs?: () => number
  readonly logger: Logger
}

export interface VerifyTarget {
  readonly table: TableName
}

/** A target as it is at the LSN of its comparison. */
interface ShapedTarget extends VerifyTarget {
  readonly shape: TableShape
}

/** What the comparison of one table found. */
export interface TableVerdict {
  readonly table: string
  /** Both sides were compared exactly as they were here. */
  readonly lsn: Lsn
  readonly equal: boolean
  readonly sourceRows: number
  readonly mirrorRows: number
  /** The first differences, in no order; `moreDifferences` tells whether there are others. */
  readonly differences: readonly RowDifference[]
  readonly moreDifferences: boolean
  readonly durationMs: number
}

export interface VerifyProgress {
  readonly table: string
  readonly phase: 'source' | 'mirror' | 'rows'
  /** Share of the phase that is done, 0 … 1. */
  readonly done: number
}

/** Longest wait for the mirror to reach the snapshot's LSN. */
const APPLY_TIMEOUT_MS = 120_000
/** A flush may let go of the snapshot's LSN before it is read, and the table's schema may change; then another snapshot is taken. */
const ATTEMPTS = 5
/** Rows of both sides that are compared one by one. */
const MAX_COMPARED_ROWS = 200_000
const MAX_DIFFERENCES = 100
/** Parts that a table is read in, for progress. */
const PARTS = 20

/** Errors that another snapshot may be free of. */
const PASSING = new Set(['LSN_NOT_HELD', 'SCHEMA_CHANGED'])

type Sums = Map<number, { rows: number; sums: [bigint, bigint] }>

/**
 * Compares a mirrored table with its source, row for row, at one exact LSN: checksums of buckets of rows first, then the rows of those buckets that
 * differ. Neither side stops; the source is read in one snapshot, the mirror as SQL shows it to everybody, both in the shape of that LSN. Postgres reads a snapshot with the
 * catalog of the moment, and a rewritten table as an empty one: so what is read while the table's schema changes does not count.
 */
export class Verifier {
  private readonly parts: VerifierParts
  private waited = 0

  constructor(parts: VerifierParts) {
    this.parts = parts
  }

  /** How long, in ms, comparisons have waited by now for the source to give a snapshot, as for its transactions to end: time that costs neither side. */
  get waitedMs(): number {
    return this.waited
  }

  async verify(
    target: VerifyTarget,
    onProgress: (progress: VerifyProgress) => void = () => undefined,
    signal?: AbortSignal,
  ): Promise<TableVerdict> {
    const table = formatTableName(target.table)
    const startedMs = this.parts.clock.nowMs()
    const sums = await this.atOneLsn(target, (snapshot) => this.sums(snapshot, target, onProgress, signal))
    const suspects = differingBuckets(sums.source, sums.mirror)
    const verdict = { table, lsn: sums.lsn, sourceRows: countRows(sums.source), mirrorRows: countRows(sums.mirror) }
    const found =
      suspects.length === 0
        ? { differences: [], more: false }
        : await this.atOneLsn(target, (snapshot) => this.rowsOf(snapshot, target, sums, suspects, onProgress, signal))
    return {
      ...verdict,
      equal: suspects.length === 0,
      differences: found.differences,
      moreDifferences: found.more,
      durationMs: this.parts.clock.nowMs() - startedMs,
    }
  }

  private async atOneLsn<T>({ table }: VerifyTarget, read: (snapshot: SourceSnapshot) => Promise<T>): Promise<T> {
    const { logger, shape, sourceMark } = this.parts
    for (let attempt = 1; ; attempt++) {
      const known = shape(table)
      const before = await sourceMark(table, known)
      const snapshot = await this.openSnapshot()
      try {
        const [result] = await Promise.allSettled([read(snapshot)])
        if ((await sourceMark(table, known)) !== before) throw shapeChanged(table)
        if (result.status === 'rejected') throw result.reason
        return result.value
      } catch (error) {
        if (!isMoonlinkError(error) || !PASSING.has(error.code) || attempt === ATTEMPTS) throw error
        logger.info('the table is verified at a later LSN', {
          table: formatTableName(table),
          lsn: formatLsn(snapshot.lsn),
          error: error.message,
        })
      } finally {
        await snapshot.close()
      }
    }
  }

  private async openSnapshot(): Promise<SourceSnapshot> {
    const { monotonicMs = () => performance.now(), openSnapshot } = this.parts
    const startedMs = monotonicMs()
    try {
      return await openSnapshot()
    } finally {
      this.waited += monotonicMs() - startedMs
    }
  }

  private async sums(
    snapshot: SourceSnapshot,
    target: VerifyTarget,
    onProgress: (progress: VerifyProgress) => void,
    signal?: AbortSignal,
  ): Promise<{ lsn: Lsn; buckets: number; source: Sums; mirror: Sums }> {
    const table = formatTableName(target.table)
    // The mirror first: the sooner after the snapshot, the surer its LSN is still held.
    onProgress({ table, phase: 'mirror', done: 0 })
    const [[counted]] = await this.mirrorRows(`SELECT count(*) FROM ${qualified(target.table)}`, snapshot.lsn)
    const buckets = bucketCount(Number(counted))
    const mirror: Sums = new Map()
    const shaped = this.shaped(target, snapshot.lsn)
    addSums(mirror, await this.mirrorRows(bucketSums(mirrorSide(shaped), buckets), snapshot.lsn))
    const source: Sums = new Map()
    const parts = await this.sourceParts(snapshot, shaped)
    for (const [index, side] of parts.entries()) {
      signal?.throwIfAborted()
      onProgress({ table, phase: 'source', done: index / parts.length })
      addSums(source, await snapshot.rows(bucketSums(side, buckets)))
    }
    onProgress({ table, phase: 'source', done: 1 })
    return { lsn: snapshot.lsn, buckets, source, mirror }
  }

  private async rowsOf(
    snapshot: SourceSnapshot,
    target: VerifyTarget,
    sums: { buckets: number; source: Sums; mirror: Sums },
    suspects: readonly number[],
    onProgress: (progress: VerifyProgress) => void,
    signal?: AbortSignal,
  ): Promise<{ differences: RowDifference[]; more: boolean }> {
    const chosen: number[] = []
    let rows = 0
    for (const bucket of suspects) {
      rows += (sums.source.get(bucket)?.rows ?? 0) + (sums.mirror.get(bucket)?.rows ?? 0)
      if (chosen.length > 0 && rows > MAX_COMPARED_ROWS) break
      chosen.push(bucket)
    }
    onProgress({ table: formatTableName(target.table), phase: 'rows', done: 0 })
    // The mirror has to have come that far before it knows its shape there.
    await this.mirrorRows(`SELECT count(*) FROM ${qualified(target.table)}`, snapshot.lsn)
    const shaped = this.shaped(target, snapshot.lsn)
    const mirror = await this.mirrorRows(bucketRows(mirrorSide(shaped), sums.buckets, chosen), snapshot.lsn)
    const source: (readonly (string | null)[])[] = []
    for (const side of await this.sourceParts(snapshot, shaped)) {
      signal?.throwIfAborted()
      source.push(...(await snapshot.rows(bucketRows(side, sums.buckets, chosen))))
    }
    const differences = differingRows(source, mirror)
    return {
      differences: differences.slice(0, MAX_DIFFERENCES),
      more: differences.length > MAX_DIFFERENCES || chosen.length < suspects.length,
    }
  }

  private shaped({ table }: VerifyTarget, lsn: Lsn): ShapedTarget {
    return { table, shape: this.parts.shape(table, lsn) }
  }

  private async sourceParts(snapshot: SourceSnapshot, target: ShapedTarget): Promise<TableSide[]> {
    const filter = await this.parts.rowFilter(target.table, snapshot)
    return sourceParts(snapshot, target, this.parts.fieldSources(target.table, target.shape), filter)
  }

  private async mirrorRows(sql: string, lsn: Lsn): Promise<(string | null)[][]> {
    const query = await this.parts.query(sql, lsn, APPLY_TIMEOUT_MS)
    try {
      const rows: (string | null)[][] = []
      for await (const chunk of query.rows) for (const row of chunk) rows.push(row.map(textOf))
      return rows
    } finally {
      query.close()
    }
  }
}

function textOf(value: JsonValue): string | null {
  return value === null || typeof value === 'string' ? value : stringifyJsonLossless(value)
}

function shapeChanged(table: TableName): MoonlinkError {
  const message = `the schema of ${formatTableName(table)} changed while it was compared; verify it again once that is over.`
  return new MoonlinkError('retry', 'SCHEMA_CHANGED', message)
}

function mirrorSide(target: ShapedTarget): TableSide {
  const textOf = ({ type, name }: Field) => mirrorText(type, quoteIdentifier(name))
  return { dialect: mirrorDialect, textOf, from: qualified(target.table), schema: target.shape.schema }
}

/** The source's table in ranges of its pages, so that no statement takes long; the last has no end. */
async function sourceParts(
  snapshot: SourceSnapshot,
  target: ShapedTarget,
  sources: ReadonlyMap<number, FieldSource>,
  filter: string | null,
): Promise<TableSide[]> {
  const name = qualified(target.table)
  const [facts] = await snapshot.rows(
    `SELECT c.relkind, (pg_relation_size(c.oid) / current_setting('block_size')::bigint)::bigint, a.amname
     FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam WHERE c.oid = pg_catalog.to_regclass(${quoteText(name)})`,
  )
  if (facts === undefined) {
    throw new MoonlinkError(
      'invalid',
      'TABLE_UNKNOWN',
      `${formatTableName(target.table)} is not in the source any more, so it can't be verified.`,
    )
  }
  const [kind, pages, accessMethod] = facts
  const textOf = ({ id, name }: Field) => {
    const source = sources.get(id)
    assert(source !== undefined, 'a mirrored field comes from somewhere', { field: name })
    return sourceFieldText(source)
  }
  const side = (from: string): TableSide => ({ dialect: sourceDialect, textOf, from, schema: target.shape.schema })
  const filtered = (from: string, conditions: readonly string[]) => {
    const all = filter === null ? conditions : [...conditions, `(${filter})`]
    return side(all.length === 0 ? from : `${from} WHERE ${all.join(' AND ')}`)
  }
  if (kind !== 'r') return [filtered(name, [])]
  const step = Math.ceil(Number(pages) / PARTS)
  if (accessMethod !== 'heap' || step === 0) return [filtered(`ONLY ${name}`, [])]
  const count = Math.ceil(Number(pages) / step)
  return Array.from({ length: count }, (_, index) => {
    const end = index === count - 1 ? [] : [`ctid < '(${(index + 1) * step},0)'::tid`]
    return filtered(`ONLY ${name}`, [`ctid >= '(${index * step},0)'::tid`, ...end])
  })
}

function quoteText(text: string): string {
  return `'${text.replaceAll(`'`, `''`)}'`
}
