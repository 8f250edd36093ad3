/** A part of a statement as DuckDB's parser prints it. */
export interface JsonNode {
  readonly [key: string]: unknown
}

/** Shows every part of a parsed statement. */
export function visit(value: unknown, seen: (node: JsonNode) => void): void {
  if (Array.isArray(value)) {
    for (const item of value) visit(item, seen)
    return
  }
  if (typeof value !== 'object' || value === null) return
  seen(value as JsonNode)
  for (const child of Object.values(value)) visit(child, seen)
}
