import { assert, type ColumnBatch, type Field } from '@moonlink/core'
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
  return isPackable(fields) ? new PackedKeyHasher(fields) : new FoldedKeyHasher(fields)
}

/** Mixes the key itself by a bijection. */
class PackedKeyHasher implements KeyHasher {
  readonly exact = true
  private readonly fields: readonly Field[]

  constructor(fields: readonly Field[]) {
    this.fields = fields
  }

  hash(batch: ColumnBatch, from: number, to: number, into = emptyHashes()): KeyHashes {
    assertKeyColumns(this.fields, batch, from, to)
    resizeHashes(into, to - from)
    if (from === to) return into
    for (const column of batch.columns) assert(column.nullCount === 0, 'a required key column has no nulls')
    packKeys(this.fields, batch.columns, from, into)
    mixPairs(into.low, into.high, into.length)
    return into
  }
}

/** Folds the key's bytes into 64 bits. */
class FoldedKeyHasher implements KeyHasher {
  readonly exact = false
  private readonly fields: readonly Field[]

  constructor(fields: readonly Field[]) {
    this.fields = fields
  }

  hash(batch: ColumnBatch, from: number, to: number, into = emptyHashes()): KeyHashes {
    assertKeyColumns(this.fields, batch, from, to)
    resizeHashes(into, to - from)
    if (from === to) return into
    seedStates(into)
    for (const column of batch.columns) foldCells(foldColumn(column), from, into.length, into, 0)
    mixPairs(into.low, into.high, into.length)
    return into
  }
}

function emptyHashes(): KeyHashes {
  return { low: new Uint32Array(0), high: new Uint32Array(0), length: 0 }
}

function assertKeyColumns(fields: readonly Field[], batch: ColumnBatch, from: number, to: number): void {
  if (from === to) return
  assert(batch.columns.length === fields.length, 'a batch of keys has the key columns only', { columns: batch.columns.length })
  assert(0 <= from && from <= to && to <= batch.length, 'rows to hash lie within the batch', { from, to, length: batch.length })
}
