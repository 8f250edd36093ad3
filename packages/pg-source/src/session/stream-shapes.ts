import { isDeepStrictEqual } from 'node:util'
import { formatTableName, isMoonlinkError, type Lsn, type ResumePoint, type TableName } from '@moonlink/core'
import {
  describeMismatch,
  droppedTable,
  renamedTable,
  type AlterationReader,
  type Relation,
  type ShapeQuestion,
  type TableAlteration,
} from '../decode/index.ts'
import type { CatalogLook } from './catalog-look.ts'
import { parseDdlMessage, type DdlMessage } from './ddl-message.ts'
import { DDL_PREFIX } from './ddl-sql.ts'
import type { MappedShape, ShapeOptions } from './describe-shape.ts'
import { evolveShape, restoreShape } from './evolve-shape.ts'
import { inferShape } from './infer-shape.ts'
import { sentColumns } from './published.ts'
import { isSameRelation, relationShape, type RelationShape } from './relation-shape.ts'
import { describeStaleRows, type Rewrite } from './stale-rows.ts'
import { namedByTypes } from './type-names.ts'
import { alteredRowType, alteredTypes, isAware, ToldTypes, type Teller, type ToldChange } from './told-types.ts'

type ShapeMessage = Extract<DdlMessage, { kind: 'shape' }>
type PartitionsMessage = Extract<DdlMessage, { kind: 'partitions' }>

const ROLLED_BACK = 'it is not known whether a schema change was rolled back'
const UNTOLD = 'it may have been rewritten before event triggers told of changes'
const UNAWARE = 'two transactions changed it at the same time, and neither knew of the other'

/** The shapes that the rows of a stream have, table by table, at the place where its decoder is. */
export class StreamShapes implements AlterationReader {
  readonly prefix = DDL_PREFIX
  private readonly options: ShapeOptions
  private readonly shapes: Map<string, MappedShape>
  private readonly through = new Map<string, Lsn>()
  private readonly types: ToldTypes
  private readonly preparedSince: (name: string) => MappedShape | undefined
  /** The form that the stream's values come in. */
  form: 'binary' | 'text' = 'binary'

  /**
   * `prepared`: tables as the catalog has them, where nothing says how they were where the stream begins. `preparedSince`: one of those that were
   * prepared after the stream began, which it does after `startLsn`.
   */
  constructor(
    prepared: Iterable<MappedShape>,
    resume: readonly ResumePoint[],
    options: ShapeOptions,
    preparedSince: (name: string) => MappedShape | undefined,
    startLsn: Lsn,
  ) {
    this.types = new ToldTypes(startLsn)
    this.preparedSince = preparedSince
    this.options = options
    this.shapes = new Map(Array.from(prepared, (shape) => [formatTableName(shape.table), shape]))
    for (const { shape, table, throughLsn } of resume) {
      const name = formatTableName(table)
      this.through.set(name, throughLsn)
      if (!this.shapes.has(name)) continue
      const restored = restoreShape(table, shape, options)
      if (restored !== null) this.shapes.set(name, restored)
    }
  }

  all(): readonly MappedShape[] {
    return [...this.shapes.values()]
  }

  /** The shape that a table's rows have by now; null where the stream has none of it. */
  relationOf(table: TableName): RelationShape | null {
    return this.shapes.get(formatTableName(table))?.relation ?? null
  }

  resolve(relation: Relation): MappedShape | null {
    const name = formatTableName(relation)
    // The same table under another name, before another table under the same name.
    const same = this.all().find(({ relationOid }) => relationOid === relation.oid)
    if (same !== undefined) return same
    const shape = this.shapes.get(name) ?? this.preparedSince(name)
    if (shape !== undefined) this.shapes.set(name, shape)
    return shape ?? null
  }

  /** Whether nothing that befalls the table goes untold, as far as is known. */
  isTold(table: TableName): boolean {
    return this.relationOf(table)?.toldSince != null
  }

  /** The table has every transaction that ends here or before. */
  throughOf(table: TableName): Lsn {
    return this.through.get(formatTableName(table)) ?? 0n
  }

  read(content: string, skips: (table: TableName) => boolean, isDoubtful: boolean): readonly TableAlteration[] {
    const message = parseDdlMessage(content)
    if (message === null) return []
    const wanted = this.all().filter(({ table }) => !skips(table))
    if (message.kind === 'unknown') return wanted.map(({ table }) => changed(table, `a schema change was not described: ${message.reason}`))
    if (message.kind === 'dropped') {
      return wanted
        .filter(({ relationOid }) => relationOid === message.oid)
        .map(({ table }) => ({ kind: 'refuse', ...droppedTable(table) }))
    }
    // One that was rolled back costs a comparison, and no more.
    if (message.kind === 'rows')
      return wanted
        .filter(({ relationOid }) => message.above.includes(relationOid))
        .map((mirrored) => ({ kind: 'stale', mirrored, reason: message.reason }))
    if (message.kind === 'partitions') return wanted.flatMap((known) => this.parted(known, message, isDoubtful))
    const types = message.kind === 'types' ? alteredTypes(message) : alteredRowType(message)
    const users = wanted.filter(({ relation }) => relation.types.some(({ oid }) => types.oids.has(oid)))
    const alterations = [
      ...(message.kind === 'types' ? [] : this.reshaped(wanted, message, isDoubtful)),
      ...users.flatMap((known) => this.retyped(known, message, types, isDoubtful)),
    ]
    this.types.note(message, types, isDoubtful)
    return alterations
  }

  /** What became of a table up to a Relation message, as far as the message and a later look at the catalog tell. */
  infer({ relation, table }: ShapeQuestion, { relation: now }: CatalogLook): readonly TableAlteration[] {
    const name = formatTableName(table)
    const known = this.shapes.get(name)!
    const mismatch = describeMismatch(relation, known)
    const isTold = now !== null && isToldSince(known.relation, now)
    if (mismatch === null && (isTold || now === null || known.relation.attributeCount === 0)) return []
    if (now === null || relation.oid !== known.relationOid) return [changed(table, mismatch ?? 'it is another table')]
    const { appendOnly, publications, versionNumber } = this.options
    const sends = sentColumns(name, appendOnly.includes(name), publications, versionNumber)
    const inferred = inferShape({ before: known.relation, relation, now, sends })
    if (!inferred.isCertain) return [changed(table, mismatch === null ? inferred.why : `${mismatch}; ${inferred.why}`)]
    const { doubt, isLatest, shape } = inferred
    if (doubt !== null) return [changed(table, doubt)]
    const alterations = this.evolve(known, shape, (mapped) => {
      const stale = describeStaleRows(known.relation, mapped, null)
      if (mismatch !== null || stale !== null || !isSameRelation(known.relation, shape)) return { stale }
      // What a later change is judged by has to be known to a stream that begins behind this.
      if (isLatest && isStoredElsewhere(known.relation, shape)) return { stale }
      if (isLatest) this.shapes.set(name, mapped)
      return null
    })
    // Nothing tells which rows are, so that it ends here and is compared, rather than goes on beside.
    return alterations.map((alteration) =>
      alteration.kind === 'reshape' && alteration.stale !== null ? changed(table, alteration.stale) : alteration,
    )
  }

  /** What a message about a table does to the one that mirrors it. */
  private reshaped(wanted: readonly MappedShape[], message: ShapeMessage, isDoubtful: boolean): readonly TableAlteration[] {
    const { relation, rewrite } = message
    const known = wanted.find(({ relationOid }) => relationOid === relation.oid)
    if (known === undefined) {
      const replaced = wanted.find(({ table }) => formatTableName(table) === formatTableName(relation))
      return replaced === undefined ? [] : [changed(replaced.table, 'the table was made anew')]
    }
    const { table } = known
    if (isDoubtful) return [changed(table, ROLLED_BACK)]
    if (relation.schema !== table.schema || relation.name !== table.name) return [{ kind: 'refuse', ...renamedTable(table, relation) }]
    if (!isAware(message, known.relation.changedBy)) return [changed(table, UNAWARE)]
    if (!isToldSince(known.relation, relation) && (relation.filenode ?? -1) !== known.relation.filenode)
      return [{ ...changed(table, UNTOLD), isLate: true }]
    const types = this.types.merge(relation.columns, message, { oids: new Set(), types: relation.types }, known.relation)
    return types === null
      ? [changed(table, UNAWARE)]
      : this.take(known, { ...relation, attached: known.relation.attached, types, changedBy: message.xid }, rewrite)
  }

  /** What it does to a table that partitions came or went: one that is made as a partition is empty, and of all others rows come or go that are not streamed. */
  private parted(known: MappedShape, { command, tables }: PartitionsMessage, isDoubtful: boolean): readonly TableAlteration[] {
    const { relation, table } = known
    const attached = tables[relation.oid]
    if (attached === undefined || attached === relation.attached) return []
    if (isDoubtful) return [changed(table, ROLLED_BACK)]
    const isHarmless = relation.attached === null || command === 'CREATE TABLE'
    return this.evolve(known, { ...relation, attached }, () => ({
      stale: isHarmless ? null : 'a partition was attached, detached or dropped',
    }))
  }

  /** What a change of types does to a table that uses one of them: its columns stay, whoever tells what they saw of them. */
  private retyped(known: MappedShape, teller: Teller, altered: ToldChange, isDoubtful: boolean): readonly TableAlteration[] {
    const { relation, table } = known
    if (isDoubtful) return [changed(table, ROLLED_BACK)]
    const types = this.types.merge(relation.columns, teller, altered, relation)
    if (types === null) return [changed(table, UNAWARE)]
    return this.take(known, { ...relation, types, columns: namedByTypes(relation, types) }, null)
  }

  private take(known: MappedShape, told: RelationShape, rewrite: Rewrite | null): readonly TableAlteration[] {
    const [before, after] = [known.relation, told].map((relation) => ({
      ...relationShape.parse(relation),
      leaves: null,
      attached: null,
      changedBy: null,
      toldSince: null,
    }))
    if (rewrite === null && isDeepStrictEqual(before, after)) {
      this.shapes.set(formatTableName(known.table), { ...known, relation: { ...known.relation, toldSince: told.toldSince } })
      return []
    }
    return this.evolve(known, told, (mapped) => ({ stale: describeStaleRows(known.relation, mapped, rewrite) }))
  }

  /** `judge`: why rows from before are stale, if they are; or null where nothing has changed. */
  private evolve(
    known: MappedShape,
    relation: RelationShape,
    judge: (mapped: MappedShape) => { readonly stale: string | null } | null,
  ): readonly TableAlteration[] {
    const { schema, sourceState, table } = known
    try {
      const { mapped, stale } = evolveShape(table, { schema, sourceState }, relation, this.options)
      const judged = judge(mapped)
      if (judged === null) return []
      const misfit = mapped.streamForms.find(({ form }) => form !== this.form)
      if (misfit !== undefined) return [changed(table, `column "${misfit.column}" can't be read from a stream in ${this.form}`)]
      this.shapes.set(formatTableName(table), mapped)
      return [{ kind: 'reshape', mirrored: mapped, stale: stale ?? judged.stale }]
    } catch (error) {
      if (!isMoonlinkError(error, 'invalid')) throw error
      return [{ kind: 'refuse', table, code: error.code, reason: error.message }]
    }
  }
}

/** Whether both looks at a table fell into one time in which each change of it was told. */
function isToldSince({ toldSince }: RelationShape, other: RelationShape): boolean {
  return toldSince !== null && toldSince === other.toldSince
}

/** Whether the table was emptied or rewritten between two looks, or its partitions are others. */
function isStoredElsewhere(before: RelationShape, now: RelationShape): boolean {
  return now.filenode !== before.filenode || now.leaves !== before.leaves
}

/** The table can't be followed any further, and is taken on as it is now. */
export function changed(table: TableName, reason: string): Extract<TableAlteration, { kind: 'refuse' }> {
  const name = formatTableName(table)
  return {
    kind: 'refuse',
    table,
    code: 'SCHEMA_CHANGED',
    reason: `${reason}; moonlink tables resync ${name} takes the table on as it is now`,
  }
}
