import { TextSink } from './text-sink.ts'
import { int32At, malformedValue, uint16At } from './wire.ts'

/** Renderers (see `RenderText`) of full text search's types. */

const QUOTE = 0x27
const BACKSLASH = 0x5c

/** `'lexeme':1A,2 'other'` */
export function renderTsvector(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  const count = end - start < 4 ? -1 : int32At(source, start)
  let at = start + 4
  if (count < 0) malformedValue('tsvector', 'too short')
  for (let index = 0; index < count; index++) {
    if (index > 0) sink.byte(0x20)
    at = renderLexeme(source, at, end, sink)
    if (end - at < 2) malformedValue('tsvector', 'cut off')
    const positions = uint16At(source, at)
    at += 2
    if (end - at < 2 * positions) malformedValue('tsvector', `${positions} positions in ${end - at} bytes`)
    for (let position = 0; position < positions; position++, at += 2) {
      const entry = uint16At(source, at)
      sink.byte(position === 0 ? 0x3a : 0x2c)
      sink.integer(entry & 0x3fff)
      const weight = entry >> 14
      // 3 to 1 are A to C; 0 is D, which goes without saying.
      if (weight > 0) sink.byte(0x44 - weight)
    }
  }
  if (at !== end) malformedValue('tsvector', `${end - at} bytes too many`)
}

/** A string that ends in a zero byte, in quotes; returns what follows it. */
function renderLexeme(source: Uint8Array, start: number, end: number, sink: TextSink): number {
  let at = start
  sink.byte(QUOTE)
  for (; at < end && source[at] !== 0; at++) {
    if (source[at] === QUOTE || source[at] === BACKSLASH) sink.byte(source[at])
    sink.byte(source[at])
  }
  if (at >= end) malformedValue('tsvector', 'a lexeme does not end')
  sink.byte(QUOTE)
  return at + 1
}

const OPERAND = 1
const OPERATOR = 2
const NOT = 1
const AND = 2
const OR = 3
const PHRASE = 4
/** How closely each operator binds, by its number. */
const PRIORITY = [0, 4, 2, 1, 3]
const MAX_DEPTH = 10_000

/** An infix expression of a tsquery, which travels as operators and operands in prefix order, the right operand first. */
export function renderTsquery(source: Uint8Array, start: number, end: number, sink: TextSink): void {
  const count = end - start < 4 ? -1 : int32At(source, start)
  if (count < 0) malformedValue('tsquery', 'too short')
  if (count === 0 && end - start === 4) return
  const last = new QueryRenderer(source, end).render(start + 4, sink, -1, false, 0)
  if (last !== end) malformedValue('tsquery', `${end - last} bytes too many`)
}

class QueryRenderer {
  private readonly source: Uint8Array
  private readonly end: number

  constructor(source: Uint8Array, end: number) {
    this.source = source
    this.end = end
  }

  /** Renders the node at `at`; returns what follows it and its operands. */
  render(at: number, sink: TextSink, outerPriority: number, isRightOfPhrase: boolean, depth: number): number {
    if (this.end - at < 2 || depth > MAX_DEPTH) malformedValue('tsquery', 'cut off')
    const kind = this.source[at]
    if (kind === OPERAND) return this.operand(at + 1, sink)
    const operator = this.source[at + 1]
    if (kind !== OPERATOR || operator < NOT || operator > PHRASE) malformedValue('tsquery', `a node of kind ${kind}, ${operator}`)
    const priority = PRIORITY[operator]
    const hasBrackets = priority < outerPriority || (operator === PHRASE && isRightOfPhrase)
    if (hasBrackets) sink.ascii('( ')
    let next = at + 2
    if (operator === NOT) {
      sink.byte(0x21)
      next = this.render(next, sink, priority, false, depth + 1)
    } else {
      let symbol = operator === AND ? ' & ' : operator === OR ? ' | ' : ' <-> '
      if (operator === PHRASE) {
        if (this.end - next < 2) malformedValue('tsquery', 'cut off')
        const distance = uint16At(this.source, next)
        next += 2
        if (distance !== 1) symbol = ` <${distance}> `
      }
      const right = new TextSink()
      next = this.render(next, right, priority, operator === PHRASE, depth + 1)
      next = this.render(next, sink, priority, false, depth + 1)
      sink.ascii(symbol)
      sink.copy(right.bytes, 0, right.length)
    }
    if (hasBrackets) sink.ascii(' )')
    return next
  }

  /** Weight, prefix flag and text. */
  private operand(at: number, sink: TextSink): number {
    if (this.end - at < 3) malformedValue('tsquery', 'cut off')
    const weight = this.source[at]
    const isPrefix = this.source[at + 1] !== 0
    const next = renderLexeme(this.source, at + 2, this.end, sink)
    if (weight === 0 && !isPrefix) return next
    sink.byte(0x3a)
    if (isPrefix) sink.byte(0x2a)
    for (let bit = 3; bit >= 0; bit--) if (weight & (1 << bit)) sink.byte(0x44 - bit)
    return next
  }
}
