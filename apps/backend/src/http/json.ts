/** `JSON` with the source-text access that Node has and the ES2024 library does not describe. */
interface SourceTextJson {
  rawJSON(text: string): object
  isRawJSON(value: unknown): value is { readonly rawJSON: string }
  parse(text: string, reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown): unknown
}
const json = JSON as unknown as SourceTextJson

/** A number that `JSON.stringify` prints with exactly these digits. */
export function exactNumber(text: string): unknown {
  const number = Number(text)
  return Number.isFinite(number) && String(number) === text ? number : json.rawJSON(text)
}

/** Like `JSON.parse`, but a number that a double would change keeps its digits: it can be printed again, and read with `cellText`. */
export function parseExact(text: string): unknown {
  return json.parse(text, (_key, value, { source }) => (typeof value === 'number' && source !== undefined ? exactNumber(source) : value))
}

/** A cell as plain text: what a table or a CSV file shows. Null for SQL's NULL. */
export function cellText(cell: unknown): string | null {
  if (cell === null || cell === undefined) return null
  if (typeof cell === 'string') return cell
  return json.isRawJSON(cell) ? cell.rawJSON : JSON.stringify(cell)
}
