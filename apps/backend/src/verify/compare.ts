/** One row that is not the same on both sides. */
export interface RowDifference {
  /** `missing`: only in the source. `extra`: only in the mirror. `different`: in both under one key, with other values. */
  readonly kind: 'missing' | 'extra' | 'different'
  /** The key's values as text (the whole row's, where the table has no key). */
  readonly key: readonly (string | null)[]
}

type TextRow = readonly (string | null)[]

/** Adds rows of `bucketSums` to what is known of their buckets. */
export function addSums(into: Map<number, { rows: number; sums: [bigint, bigint] }>, rows: readonly TextRow[]): void {
  for (const [bucket, count, first, second] of rows) {
    const known = into.get(Number(bucket)) ?? { rows: 0, sums: [0n, 0n] }
    known.rows += Number(count)
    known.sums = [known.sums[0] + BigInt(first ?? 0), known.sums[1] + BigInt(second ?? 0)]
    into.set(Number(bucket), known)
  }
}

type Sums = ReadonlyMap<number, { readonly rows: number; readonly sums: readonly [bigint, bigint] }>

export function countRows(sums: Sums): number {
  return [...sums.values()].reduce((total, { rows }) => total + rows, 0)
}

/** Buckets that do not add up to the same, ascending. */
export function differingBuckets(source: Sums, mirror: Sums): number[] {
  const differs = (bucket: number) => {
    const a = source.get(bucket)
    const b = mirror.get(bucket)
    return a?.rows !== b?.rows || a?.sums[0] !== b?.sums[0] || a?.sums[1] !== b?.sums[1]
  }
  return [...new Set([...source.keys(), ...mirror.keys()])].filter(differs).sort((a, b) => a - b)
}

/** Compares rows of `bucketRows`, as bags: a table without a key may hold a row more than once. */
export function differingRows(source: readonly TextRow[], mirror: readonly TextRow[]): RowDifference[] {
  const surplus = new Map<string, { key: TextRow; count: number }>()
  const count = (rows: readonly TextRow[], by: number) => {
    for (const row of rows) {
      const name = JSON.stringify(row)
      const entry = surplus.get(name) ?? { key: row.slice(1), count: 0 }
      entry.count += by
      surplus.set(name, entry)
    }
  }
  count(source, 1)
  count(mirror, -1)
  const byKey = new Map<string, { key: TextRow; missing: number; extra: number }>()
  for (const { key, count: left } of surplus.values()) {
    if (left === 0) continue
    const name = JSON.stringify(key)
    const entry = byKey.get(name) ?? { key, missing: 0, extra: 0 }
    if (left > 0) entry.missing += left
    else entry.extra -= left
    byKey.set(name, entry)
  }
  return [...byKey.values()].flatMap(({ key, missing, extra }) => {
    const both = Math.min(missing, extra)
    const of = (kind: RowDifference['kind'], times: number) => Array.from({ length: times }, () => ({ kind, key }))
    return [...of('different', both), ...of('missing', missing - both), ...of('extra', extra - both)]
  })
}
