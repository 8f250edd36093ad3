/** Rows as aligned text with a rule under the header. Columns in `right` are aligned to the right. */
export function textTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  right: ReadonlySet<number> = new Set(),
): string[] {
  const widths = header.map((name, column) => rows.reduce((width, row) => Math.max(width, textWidth(row[column])), textWidth(name)))
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => {
        const padding = ' '.repeat(widths[column] - textWidth(cell))
        return right.has(column) ? padding + cell : cell + padding
      })
      .join('  ')
      .trimEnd()
  return [line(header), rule(widths), ...rows.map(line)]
}

/** A long last column is text to be read: its rule need not be as wide. */
const MAX_LAST_RULE = 60

function rule(widths: readonly number[]): string {
  const drawn = widths.map((width, column) => '─'.repeat(column === widths.length - 1 ? Math.min(width, MAX_LAST_RULE) : width))
  return drawn.join('──')
}

const SEPARATOR_WIDTH = 2
/** Narrower than this a cell tells nothing; lines become longer than the room instead. */
const LEAST_LIMIT = 10

/** The width that cells may have so that a row has room, where those of the columns in `fixed` are left as they are; infinite where all have. */
export function widthLimit(rows: readonly (readonly string[])[], fixed: ReadonlySet<number>, room: number): number {
  const widths = rows[0].map((_, column) => rows.reduce((width, row) => Math.max(width, textWidth(row[column])), 0))
  const flexible = widths.filter((_, column) => !fixed.has(column)).sort((a, b) => a - b)
  const taken = widths.reduce((sum, width, column) => sum + (fixed.has(column) ? width : 0), SEPARATOR_WIDTH * (widths.length - 1))
  let left = room - taken
  for (const [index, width] of flexible.entries()) {
    const share = Math.floor(left / (flexible.length - index))
    if (width > share) return Math.max(share, LEAST_LIMIT)
    left -= width
  }
  return Number.POSITIVE_INFINITY
}

/** The text, or as much of it as a width has room for, with a mark. */
export function clip(text: string, width: number): string {
  if (textWidth(text) <= width) return text
  let kept = ''
  let keptWidth = 0
  for (const character of text) {
    keptWidth += textWidth(character)
    if (keptWidth > width - 1) break
    kept += character
  }
  return `${kept}…`
}

/** Terminal columns a text takes, near enough: East Asian wide characters and emoji take two, combining marks none. */
export function textWidth(text: string): number {
  // eslint-disable-next-line no-control-regex -- plain ASCII is by far the most, and quick to tell
  if (/^[\x20-\x7e]*$/.test(text)) return text.length
  let width = 0
  for (const character of text) {
    if (/\p{Mark}|\u200d|\ufe0f/u.test(character)) continue
    width +=
      /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Extended_Pictographic}/u.test(
        character,
      )
        ? 2
        : 1
  }
  return width
}
