import { isMarkedAsUntransferable } from 'node:worker_threads'

/** What says how values are laid out, or what a field holds by default, belongs to the schema, which others go on using. */
const DESCRIPTIONS: ReadonlySet<string> = new Set(['type', 'fields', 'initialDefault', 'writeDefault'])

/**
 * The ArrayBuffers below `value`, each once, to be moved to another thread instead of copied. Left out are empty ones, which several
 * owners may share, and those that Node keeps (its pool).
 */
export function transferList(value: unknown, found = new Set<ArrayBuffer>()): ArrayBuffer[] {
  if (ArrayBuffer.isView(value)) {
    const { buffer } = value
    if (buffer instanceof ArrayBuffer && buffer.byteLength > 0 && !isMarkedAsUntransferable(buffer)) found.add(buffer)
  } else if (typeof value === 'object' && value !== null) {
    for (const [key, child] of Object.entries(value)) if (!DESCRIPTIONS.has(key)) transferList(child, found)
  }
  return [...found]
}
