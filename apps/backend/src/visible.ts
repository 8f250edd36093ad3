const shortEscapes: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }

const hex = (character: string, digits: number) => character.charCodeAt(0).toString(16).toUpperCase().padStart(digits, '0')

/** The text with its control characters written out, as psql does (`\n`, `\x1B`): names and values must not drive a terminal. */
export function visible(text: string): string {
  return text.replaceAll(/\p{Control}/gu, (character) => shortEscapes[character] ?? `\\x${hex(character, 2)}`)
}

/** JSON without the control characters that it may hold as they are (DEL, and those from U+0080 to U+009F); its meaning is the same. */
export function visibleJson(json: string): string {
  return json.replaceAll(/[\u007f-\u009f]/g, (character) => `\\u${hex(character, 4)}`)
}
