/** Whether a local file is a list of files that may be left over. */
export function isList(path: string): boolean {
  return /\/staged[-\w]*$/.test(`/${path}`)
}

/** What lists of files that may be left over have, as text: their lines add (`+`) and take away (`-`) what they name. */
export function listedIn(lists: Iterable<string>): string {
  const found: string[] = []
  for (const list of lists) {
    const listed = new Set<string>()
    for (const [, sign, what] of list.matchAll(/^([+-])(".*")/gm)) {
      if (sign === '+') listed.add(what)
      else listed.delete(what)
    }
    found.push(...listed)
  }
  return found.join('\n')
}
