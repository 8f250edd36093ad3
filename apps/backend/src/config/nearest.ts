import { parseTableName } from '@moonlink/core'

/** Edits beyond this share of a word's letters make another word of it. */
const MAX_EDITED_SHARE = 0.4

/** The candidate with the fewest edits from `word`, or null where none is near enough to be meant. */
export function nearest(word: string, candidates: Iterable<string>): string | null {
  return nearestBy(word, candidates, (text) => text)
}

/** The setting or section that `key` may have meant. Within a section only the setting's own name counts, of which the beginning is enough. */
export function nearestKey(key: string, keys: readonly string[]): string | null {
  const { section, name } = splitKey(key)
  const siblings = keys.filter((candidate) => candidate !== key && splitKey(candidate).section === section)
  const begun = siblings.find((sibling) => name.length > 2 && splitKey(sibling).name.toLowerCase().startsWith(name.toLowerCase()))
  const near = begun ?? nearestBy(key, siblings, (candidate) => splitKey(candidate).name)
  if (near !== null) return near
  // A right name in the wrong section is a likely slip, where it can be one setting only.
  const namesakes = keys.filter((candidate) => splitKey(candidate).name === name)
  if (namesakes.length === 1) return namesakes[0]
  return section === '' ? nearest(key, keys) : null
}

function splitKey(key: string): { readonly section: string; readonly name: string } {
  const dot = key.lastIndexOf('.')
  return { section: key.slice(0, Math.max(dot, 0)), name: key.slice(dot + 1) }
}

/** The table that `name` may have meant: one that is called so in another schema, else the one whose own name has few enough other letters. */
export function nearestTable(given: string, tables: Iterable<string>): string | null {
  const candidates = [...tables]
  // A shell takes quotes away.
  const alike = candidates.find((table) => withoutQuotes(table) === withoutQuotes(given))
  const namesake = candidates.find((table) => ownName(table) === ownName(given))
  return alike ?? namesake ?? nearestBy(given, candidates, withoutQuotes, ownName(given).length)
}

function withoutQuotes(table: string): string {
  return table.replaceAll('"', '').toLowerCase()
}

function ownName(table: string): string {
  return parseTableName(table).name.toLowerCase()
}

function nearestBy(
  word: string,
  candidates: Iterable<string>,
  compared: (text: string) => string,
  letters = compared(word).length,
): string | null {
  let best: string | null = null
  let bestDistance = Math.max(1, Math.floor(letters * MAX_EDITED_SHARE)) + 1
  for (const candidate of candidates) {
    const distance = editDistance(compared(word).toLowerCase(), compared(candidate).toLowerCase())
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance]
  }
  return best
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)))
    }
    row = next
  }
  return row[b.length]
}
