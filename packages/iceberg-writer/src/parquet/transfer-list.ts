import { isMarkedAsUntransferable } from 'node:worker_threads'

/**
 * The ArrayBuffers below `value`, each once, to be moved to another thread instead of copied. Left out are empty ones, which several
 * owners may share, and those that Node keeps (its pool).
 */
export function transferList(value: unknown, found = new Set<ArrayBuffer>()): ArrayBuffer[] {
  if (ArrayBuffer.isView(value)) {
    const { buffer } = value
    if (buffer instanceof ArrayBuffer && buffer.byteLength > 0 && !isMarkedAsUntransferable(buffer)) found.add(buffer)
  } else if (typeof value === 'object' && value !== null) {
    for (const child of Object.values(value)) transferList(child, found)
  }
  return [...found]
}
