/** The candidate with the fewest edits from `word`, or null where none is near enough to be meant. */
export function nearest(word: string, candidates: Iterable<string>): string | null {
  let best: string | null = null
  let bestDistance = Math.ceil(word.length / 2) + 1
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase())
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance]
  }
  return best
}

/** The table that `name` may have meant: one that is called so in another schema, else the one whose own name has few enough other letters. */
export function nearestTable(name: string, tables: Iterable<string>): string | null {
  const candidates = [...tables]
  const ownName = (table: string) => table.slice(table.indexOf('.') + 1)
  const namesake = candidates.find((table) => ownName(table).toLowerCase() === ownName(name).toLowerCase())
  if (namesake !== undefined) return namesake
  const near = nearest(name, candidates)
  const isNear =
    near !== null && editDistance(name.toLowerCase(), near.toLowerCase()) <= Math.max(1, Math.floor(ownName(name).length * 0.4))
  return isNear ? near : null
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
