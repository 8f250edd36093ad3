/** Throws what the one list lacks of the other, and has too many. */
export function same(found: readonly string[], expected: readonly string[], what: string): void {
  if (found.length === expected.length && found.every((text, index) => text === expected[index])) return
  const lacks = without(expected, found)
  const hasToo = without(found, expected)
  throw new Error(
    `${what}: lacks ${lacks.length} rows (${lacks.slice(0, 3).join(', ')}), has ${hasToo.length} too many (${hasToo.slice(0, 3).join(', ')})`,
  )
}

/** The same, where any of the others will do. There is one unless nothing may be found. */
export function sameAsOne(found: readonly string[], expected: readonly (readonly string[])[], what: string): void {
  if (expected.length === 0) throw new Error(`${what}: shows ${found.length} rows of a table that is not there`)
  const isIt = (list: readonly string[]) => found.length === list.length && found.every((text, index) => text === list[index])
  if (!expected.some(isIt)) same(found, expected[0], what)
}

/** What is in the one list and not in the other, as often as it is. */
function without(list: readonly string[], other: readonly string[]): string[] {
  const left = [...other]
  return list.filter((text) => {
    const at = left.indexOf(text)
    if (at >= 0) left.splice(at, 1)
    return at < 0
  })
}
