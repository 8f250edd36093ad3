import { randomUuid, type DeletionVector, type Random } from '@moonlink/core'
import { encodePuffin } from '../puffin/puffin-file.ts'
import type { StagedVector } from './plan-commit.ts'

/** Bytes of bitmaps after which a new Puffin file starts: some readers read the whole file for each of its vectors. */
const PUFFIN_BYTES = 8 << 20
const CREATED_BY = 'moonlink'

export interface StagedVectors {
  readonly vectors: readonly StagedVector[]
  readonly files: readonly { readonly path: string; readonly bytes: Uint8Array }[]
}

/**
 * Puts deletion vectors into Puffin files that are to be written under `directory`.
 *
 * The vectors of one file come in falling order of their offsets, and manifests keep that order: DuckDB 1.5's reader, which reads
 * them in the order of the manifest, takes a wrong vector where its cache already covers the range from an earlier offset on
 * (duckdb-iceberg pull request 1182).
 */
export function stageVectors(random: Random, directory: string, vectors: readonly DeletionVector[]): StagedVectors {
  const staged: StagedVector[] = []
  const files: { path: string; bytes: Uint8Array }[] = []
  for (const group of groupsOf(vectors)) {
    const puffinPath = `${directory}/${randomUuid(random)}-deletes.puffin`
    const puffin = encodePuffin(group, CREATED_BY)
    files.push({ path: puffinPath, bytes: puffin.bytes })
    for (const vector of puffin.vectors.toReversed()) staged.push({ ...vector, puffinPath, puffinSizeBytes: puffin.bytes.length })
  }
  return { vectors: staged, files }
}

function groupsOf(vectors: readonly DeletionVector[]): DeletionVector[][] {
  const groups: DeletionVector[][] = []
  let bytes = PUFFIN_BYTES
  for (const vector of vectors) {
    if (bytes >= PUFFIN_BYTES) {
      groups.push([])
      bytes = 0
    }
    groups.at(-1)!.push(vector)
    bytes += vector.bitmap.length
  }
  return groups
}
