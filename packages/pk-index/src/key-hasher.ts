import { assert, type Column, type ColumnBatch, type Field } from '@moonlink/core'
import { foldCells, foldColumn, seedStates } from './fold.ts'
import { resizeHashes, type KeyHashes } from './key-hashes.ts'
import { mixPairs } from './mix.ts'
import { isPackable, packKeys } from './pack.ts'

/**
 * Hashes keys to 64 bits. Equal keys have equal hashes, on every machine and in every version (the hashes are stored). Equal means
 * the same bytes: NaN equals itself, -0.0 is not 0.0; null, empty and zero differ.
 *
 * Not promised: resistance against keys that somebody crafts to collide.
 */
export interface KeyHasher {
  /** True where equal hashes mean equal keys, so that nobody needs to compare keys. */
  readonly exact: boolean
  /**
   * Hashes rows `[from, to)`; entry i of the result belongs to row `from + i`. The batch's columns are exactly the key fields, in
   * order. `into` is filled and returned if given, its arrays replaced where they are too short.
   */
  hash(batch: ColumnBatch, from: number, to: number, into?: KeyHashes): KeyHashes
}

/**
 * A hasher for keys of these fields; for whole rows, give every field. Exact where all fields are required and of fixed width, 8
 * bytes in total (a boolean counts as 1).
 */
export function createKeyHasher(fields: readonly Field[]): KeyHasher {
  return isPackable(fields) ? new ColumnHasher(fields, true, packInto) : new ColumnHasher(fields, false, foldInto)
}

type Fill = (fields: readonly Field[], columns: readonly Column[], from: number, into: KeyHashes) => void

class ColumnHasher implements KeyHasher {
  readonly exact: boolean
  private readonly fields: readonly Field[]
  private readonly fill: Fill

  /** `fill` makes 64 bits of each key, which are then mixed by a bijection. */
  constructor(fields: readonly Field[], exact: boolean, fill: Fill) {
    this.fields = fields
    this.exact = exact
    this.fill = fill
  }

  hash(batch: ColumnBatch, from: number, to: number, into = emptyHashes()): KeyHashes {
    assertKeyColumns(this.fields, batch, from, to)
    resizeHashes(into, to - from)
    if (from === to) return into
    this.fill(this.fields, batch.columns, from, into)
    mixPairs(into.low, into.high, into.length)
    return into
  }
}

/** The key itself. */
function packInto(fields: readonly Field[], columns: readonly Column[], from: number, into: KeyHashes): void {
  for (const column of columns) assert(column.nullCount === 0, 'a required key column has no nulls')
  packKeys(fields, columns, from, into)
}

/** The key's bytes, folded. */
function foldInto(_fields: readonly Field[], columns: readonly Column[], from: number, into: KeyHashes): void {
  seedStates(into)
  for (const column of columns) foldCells(foldColumn(column), from, into.length, into, 0)
}

function emptyHashes(): KeyHashes {
  return { low: new Uint32Array(0), high: new Uint32Array(0), length: 0 }
}

function assertKeyColumns(fields: readonly Field[], batch: ColumnBatch, from: number, to: number): void {
  if (from === to) return
  assert(batch.columns.length === fields.length, 'a batch of keys has the key columns only', { columns: batch.columns.length })
  assert(0 <= from && from <= to && to <= batch.length, 'rows to hash lie within the batch', { from, to, length: batch.length })
}
