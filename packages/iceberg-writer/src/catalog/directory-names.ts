import type { TableIdentifier } from '@moonlink/core'

/**
 * Namespace and table names as directory names and back.
 *
 * Readers take the path in a URI as it is, without percent-decoding, so a name keeps its letters (of any script), digits, `_`, `-`,
 * `.`, `$` and spaces inside, and everything else becomes `~`, the hexadecimal digits of its code point and `;`.
 */
const PLAIN = /^[\p{L}\p{M}\p{N}_\-$]$/u
const PLAIN_INSIDE = /^[ .]$/

/** Where a file catalog keeps a table: a URI or path below `warehouse`, which has no slash at its end. */
export function tableLocation(warehouse: string, table: TableIdentifier): string {
  return `${warehouse}/${directoryName(table.namespace)}/${directoryName(table.name)}`
}

export function directoryName(name: string): string {
  const points = Array.from(name)
  return points
    .map((point, index) => {
      const inside = index > 0 && index < points.length - 1
      return PLAIN.test(point) || (inside && PLAIN_INSIDE.test(point)) ? point : escape(point)
    })
    .join('')
}

export function nameOfDirectory(directory: string): string {
  return directory.replace(/~([0-9a-f]{4,6});/g, (_match, hex: string) => String.fromCodePoint(Number.parseInt(hex, 16)))
}

function escape(point: string): string {
  return `~${point.codePointAt(0)!.toString(16).padStart(4, '0')};`
}
