import { fixedWidth } from '../types.ts'
import { bigInt64View, bitAt, float32View, float64View, int32View, isValid, type Column } from './column.ts'
import type { ColumnBuilder } from './column-builder.ts'
import type { Value } from './value.ts'

const decoder = new TextDecoder()

/** A value as JavaScript has it (see `Value`); null where the row has none. For single values: a column is read faster by its views. */
export function valueAt(column: Column, row: number): Value {
  if (!isValid(column, row)) return null
  switch (column.type.kind) {
    case 'boolean':
      return bitAt(column.values, row)
    case 'int':
    case 'date':
      return int32View(column)[row]
    case 'long':
    case 'time':
    case 'timestamp':
    case 'timestamptz':
      return bigInt64View(column)[row]
    case 'float':
      return float32View(column)[row]
    case 'double':
      return float64View(column)[row]
    case 'decimal':
      return decimalAt(column, row)
    case 'string':
    case 'variant':
      return decoder.decode(column.values.subarray(column.offsets![row], column.offsets![row + 1]))
    case 'binary':
      return column.values.slice(column.offsets![row], column.offsets![row + 1])
    case 'uuid':
    case 'fixed': {
      const width = fixedWidth(column.type)
      return column.values.slice(row * width, (row + 1) * width)
    }
    case 'list': {
      const values: Value[] = []
      for (let index = column.offsets![row]; index < column.offsets![row + 1]; index++) values.push(valueAt(column.children[0], index))
      return values
    }
    case 'struct':
      return column.children.map((child) => valueAt(child, row))
  }
}

/** Appends a value in the form that `valueAt` returns. Not for hot paths. */
export function appendValue(builder: ColumnBuilder, value: Value): void {
  if (value === null) return builder.appendNull()
  switch (builder.type.kind) {
    case 'boolean':
      return builder.appendBoolean(value as boolean)
    case 'int':
    case 'date':
      return builder.appendInt32(value as number)
    case 'long':
    case 'time':
    case 'timestamp':
    case 'timestamptz': {
      const bits = BigInt.asUintN(64, value as bigint)
      return builder.appendInt64(Number(bits & 0xffff_ffffn), Number(bits >> 32n))
    }
    case 'float':
      return builder.appendFloat(value as number)
    case 'double':
      return builder.appendDouble(value as number)
    case 'decimal': {
      const bits = BigInt.asUintN(128, value as bigint)
      const word = (index: bigint) => Number((bits >> (32n * index)) & 0xffff_ffffn)
      return builder.appendInt128(word(0n), word(1n), word(2n), word(3n))
    }
    case 'string':
    case 'variant': {
      const bytes = new TextEncoder().encode(value as string)
      return builder.appendBytes(bytes, 0, bytes.length)
    }
    case 'binary':
    case 'uuid':
    case 'fixed':
      return builder.appendBytes(value as Uint8Array, 0, (value as Uint8Array).length)
    case 'list':
      for (const element of value as readonly Value[]) appendValue(builder.children[0], element)
      return builder.appendListEnd()
    case 'struct':
      builder.children.forEach((child, index) => appendValue(child, (value as readonly Value[])[index]))
      return builder.appendStructEnd()
  }
}

/** True where both values are null, or both are the same bytes. Compares representations: NaN equals itself, -0.0 is not 0.0. */
export function cellsEqual(a: Column, rowA: number, b: Column, rowB: number): boolean {
  const valid = isValid(a, rowA)
  if (valid !== isValid(b, rowB)) return false
  if (!valid) return true
  if (a.type.kind === 'boolean') return bitAt(a.values, rowA) === bitAt(b.values, rowB)
  if (a.type.kind === 'struct') return a.children.every((child, index) => cellsEqual(child, rowA, b.children[index], rowB))
  if (a.offsets === null) {
    const width = fixedWidth(a.type)
    return bytesEqual(a.values, rowA * width, b.values, rowB * width, width)
  }
  const startA = a.offsets[rowA]
  const startB = b.offsets![rowB]
  const size = a.offsets[rowA + 1] - startA
  if (size !== b.offsets![rowB + 1] - startB) return false
  if (a.type.kind !== 'list') return bytesEqual(a.values, startA, b.values, startB, size)
  const [elementsA] = a.children
  const [elementsB] = b.children
  for (let index = 0; index < size; index++) if (!cellsEqual(elementsA, startA + index, elementsB, startB + index)) return false
  return true
}

function bytesEqual(a: Uint8Array, startA: number, b: Uint8Array, startB: number, size: number): boolean {
  for (let index = 0; index < size; index++) if (a[startA + index] !== b[startB + index]) return false
  return true
}

function decimalAt(column: Column, row: number): bigint {
  const words = bigInt64View(column)
  return (words[row * 2 + 1] << 64n) | BigInt.asUintN(64, words[row * 2])
}
