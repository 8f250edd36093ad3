import { isDeepStrictEqual } from 'node:util'
import type { Relation, RelationColumn } from '../decode/index.ts'
import { identityColumns } from './describe-shape.ts'
import type { RelationShape, ShapeColumn } from './relation-shape.ts'

/** What a table looked like at the place of a Relation message. */
export type InferredShape =
  /**
   * `doubt`: why rows from before may hold other values than the mirror has; null where they do not. `isLatest`: nothing was added or dropped since, so that
   * all the catalog says of the table was taken into account.
   */
  | { readonly isCertain: true; readonly shape: RelationShape; readonly doubt: string | null; readonly isLatest: boolean }
  | { readonly isCertain: false; readonly why: string }

/** What is known of a table around a Relation message. */
export interface ShapeEvidence {
  /** As it was before the message. */
  readonly before: RelationShape
  readonly relation: Relation
  /** As the catalog had it at some time after the message. */
  readonly now: RelationShape
  /** Whether the source sends a column's values. */
  readonly sends: (column: ShapeColumn) => boolean
}

/**
 * The shape of a table's rows behind a Relation message, which lists the columns in the order of their attribute numbers but leaves the numbers out
 * (`logicalrep_write_attrs`, src/backend/replication/logical/proto.c). Numbers only grow, and a dropped one does not come back. So which ones the message
 * means is certain where only one choice of as many could have been there between `before` and `now`; anything else is not guessed.
 */
export function inferShape(evidence: ShapeEvidence): InferredShape {
  const { before, now, relation } = evidence
  if (before.attributeCount === 0) return unknown('too little was kept of the table to follow its change')
  const numbers = attributeNumbers(evidence)
  if (numbers === null) return unknown('columns were dropped and added, and in which order Postgres does not tell')
  // A column that came and went may have come after the message, and is not to be taken for one before.
  const isLatest =
    cameAndWent(before, now) === 0 &&
    isSameList(
      numbers,
      now.columns.filter(evidence.sends).map(({ number }) => number),
    )
  const columns: ShapeColumn[] = []
  for (const [index, number] of numbers.entries()) {
    const column = columnOf(relation.columns[index], number, before, now)
    if (column === null) return unknown(`column "${relation.columns[index].name}" has changed again since`)
    columns.push(column)
  }
  const unsent = now.columns.filter((column) => !evidence.sends(column))
  const all = [...columns, ...unsent].sort((a, b) => a.number - b.number)
  if (new Set(all.map(({ name }) => name)).size < all.length) return unknown('its columns have changed again since')
  if (hasAlteredComposite(before, now)) return unknown('a composite type of it was altered')
  const flagged = numbers.filter((_, index) => relation.columns[index].isKey)
  const identity = [now, before].find((shape) => hasIdentity(shape, relation, flagged)) ?? null
  // Under FULL the message does not tell the key, which is the primary one.
  const [keyBefore, keyNow] = [before, now].map(({ keys }) => identityColumns({ keys, replicaIdentity: relation.replicaIdentity }))
  const isKeyCertain = relation.replicaIdentity !== 'f' || isSameList(keyBefore, keyNow)
  if (identity === null || !isKeyCertain) return unknown('its key or replica identity has changed again since')
  const shape: RelationShape = {
    ...now,
    schema: relation.schema,
    name: relation.name,
    replicaIdentity: relation.replicaIdentity,
    // What came after the message is another look's to judge, so that this one must not hide it.
    attributeCount: isLatest ? now.attributeCount : Math.max(before.attributeCount, ...numbers),
    filenode: isLatest ? now.filenode : before.filenode,
    leaves: isLatest ? now.leaves : before.leaves,
    // What became of partitions may lie behind the message.
    attached: before.attached,
    toldSince: isLatest ? now.toldSince : before.toldSince,
    columns: isLatest
      ? all
      : all.map((column) => ({ ...column, stamp: before.columns.find(({ number }) => number === column.number)?.stamp ?? null })),
    types: [...now.types, ...before.types.filter(({ oid }) => !now.types.some((type) => type.oid === oid))],
    keys: identity.keys.filter(({ columns: key }) => key.every((number) => all.some((column) => column.number === number))),
  }
  return { isCertain: true, shape, doubt: doubtOfValues(before, columns, now), isLatest }
}

function unknown(why: string): InferredShape {
  return { isCertain: false, why }
}

/**
 * The numbers of the message's columns, or null where several could be meant. Whatever the last number given by then was, what is there now and has no higher one
 * was there; of what is gone, only how many there were is told.
 */
function attributeNumbers({ before, now, relation, sends }: ShapeEvidence): readonly number[] | null {
  const sent = (shape: RelationShape) => shape.columns.filter(sends).map(({ number }) => number)
  const [known, present] = [sent(before), sent(now)]
  // Sent now and not before, or the other way round, for another reason than that it came or went.
  if (present.some((number) => number <= before.attributeCount && !known.includes(number))) return null
  if (known.some((number) => !present.includes(number) && has(now, number))) return null
  const there = present.filter((number) => number <= before.attributeCount)
  const gone = before.columns.map(({ number }) => number).filter((number) => !has(now, number))
  let found: readonly number[] | null = null
  for (let last = before.attributeCount; last <= now.attributeCount; last++) {
    if (last > before.attributeCount) {
      if (present.includes(last)) there.push(last)
      else if (!has(now, last)) gone.push(last)
    }
    const goneCount = relation.columns.length - there.length
    if (goneCount < 0 || goneCount > gone.length) continue
    if (goneCount > 0 && goneCount < gone.length) return null
    const numbers = goneCount === 0 ? [...there] : [...there, ...gone].sort(ascending)
    if (found !== null && !isSameList(found, numbers)) return null
    found = numbers
  }
  return found
}

const has = ({ columns }: RelationShape, number: number) => columns.some((column) => column.number === number)

/** How many columns were added since and dropped again. */
function cameAndWent(before: RelationShape, now: RelationShape): number {
  return now.attributeCount - before.attributeCount - now.columns.filter(({ number }) => number > before.attributeCount).length
}

/** The column that the message describes; null where neither the catalog nor what is known has it in that type. */
function columnOf(
  { name, typeOid, typmod }: RelationColumn,
  number: number,
  before: RelationShape,
  now: RelationShape,
): ShapeColumn | null {
  const of = (shape: RelationShape) => shape.columns.find((column) => column.number === number)
  const [known, present] = [of(before), of(now)]
  const typed = [present, known].find((column) => column?.typeOid === typeOid && column.typmod === typmod)
  if (typed === undefined) return null
  return { ...typed, name, isNotNull: known?.isNotNull === true && present?.isNotNull === true, stamp: present?.stamp ?? null }
}

function hasAlteredComposite(before: RelationShape, now: RelationShape): boolean {
  return now.types.some((type) => {
    const known = before.types.find(({ oid }) => oid === type.oid)
    return known !== undefined && !isDeepStrictEqual(known.attributes, type.attributes)
  })
}

/** Whether the table then had what names rows at the message, be it chosen then or not. */
function hasIdentity({ keys }: RelationShape, { replicaIdentity }: Relation, flagged: readonly number[]): boolean {
  if (replicaIdentity === 'f' || replicaIdentity === 'n') return true
  return isSameList([...identityColumns({ keys, replicaIdentity })].sort(ascending), flagged)
}

/**
 * Postgres computes values anew only where it rewrites the table, which gives it, or each of its partitions, another filenode, and only for columns whose
 * catalog rows the change wrote anew.
 */
function doubtOfValues(before: RelationShape, columns: readonly ShapeColumn[], { filenode, leaves }: RelationShape): string | null {
  if (filenode !== null && filenode !== 0 && filenode === before.filenode) return null
  const isNoneRewritten = leaves !== null && leaves === before.leaves
  for (const column of columns) {
    const known = before.columns.find(({ number }) => number === column.number)
    if (known === undefined) {
      // A partitioned table's own row does not say what its partitions' rows hold.
      if (column.missing === null) return `column "${column.name}" was added, with values of its own it may be`
    } else if (!isNoneRewritten && (column.stamp === null || column.stamp !== known.stamp)) {
      return `column "${column.name}" was altered and the table rewritten, with other values it may be`
    }
  }
  return null
}

function isSameList(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((number, index) => number === b[index])
}

function ascending(a: number, b: number): number {
  return a - b
}
