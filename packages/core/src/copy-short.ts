/** Longer runs of bytes are copied faster by `Uint8Array.set`; for shorter ones that call costs more than the copy. */
export const SHORT_COPY_BYTES = 192

/** So many bytes behind both ends `copyShort` may touch. */
export const COPY_SLACK_BYTES = 7

/**
 * Copies `source[from … end)` to where `to` is in `target`, eight bytes at a time: up to `COPY_SLACK_BYTES` behind the end are read, and as many
 * written behind what was copied, so both have to be there. The two must not overlap.
 */
export function copyShort(target: DataView, to: number, source: DataView, from: number, end: number): void {
  // No bigint is made of them once this is compiled.
  for (; from < end; from += 8, to += 8) target.setBigInt64(to, source.getBigInt64(from, true), true)
}
