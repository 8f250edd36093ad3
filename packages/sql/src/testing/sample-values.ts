import { randomBytes } from 'node:crypto'
import type { Field, FieldType, Value } from '@moonlink/core'

/** Columns `f0`, `f1`, …, every id different. */
export function fieldsOf(types: readonly FieldType[]): Field[] {
  return types.map((type, index) => ({ id: index + 1, name: `f${index}`, type: shiftIds(type, (index + 1) * 1000), required: false }))
}

function shiftIds(type: FieldType, by: number): FieldType {
  if (type.kind === 'list') return { ...type, elementId: type.elementId + by, element: shiftIds(type.element, by + 100) }
  if (type.kind !== 'struct') return type
  return { ...type, fields: type.fields.map((field) => ({ ...field, id: field.id + by, type: shiftIds(field.type, by + 10 + field.id) })) }
}

export const string: FieldType = { kind: 'string' }
export const listOf = (element: FieldType): FieldType => ({ kind: 'list', elementId: 100, element, elementRequired: false })
/** A struct of parts `a`, `b`, … */
export const structOf = (...types: FieldType[]): FieldType => ({
  kind: 'struct',
  fields: types.map((type, index) => ({ id: 200 + index, name: 'abcdef'[index], type, required: false })),
})
const int64Max = 2n ** 63n - 1n

/** Every type with values at its edges, a null among them. */
export const samples: readonly (readonly [FieldType, readonly Value[]])[] = [
  [{ kind: 'boolean' }, [true, false, null, true]],
  [{ kind: 'int' }, [0, -1, 2_147_483_647, -2_147_483_648, null]],
  [{ kind: 'long' }, [0n, -1n, int64Max, -(2n ** 63n), 2n ** 53n, null]],
  [{ kind: 'float' }, [0, -0, 1.5, Number.NaN, Infinity, -Infinity, null]],
  [{ kind: 'double' }, [0, 1e308, 5e-324, Number.NaN, Infinity, -Infinity, null]],
  [{ kind: 'date' }, [0, -1, 19_000, -719_528, -800_000, 2_932_896, null]],
  [{ kind: 'time' }, [0n, 86_399_999_999n, 3_600_000_000n, 500_000n, null]],
  [{ kind: 'timestamp' }, [0n, -1n, 1_764_000_000_123_456n, -99_999_999_999_000_000n, null]],
  [{ kind: 'timestamptz' }, [0n, -1n, 1_764_000_000_120_000n, 253_402_300_800_000_000n, null]],
  [string, ['', 'a', 'twelve bytes', 'thirteen byte', 'ünï©ödé ✓ 𝄞', 'x'.repeat(5000), null, 'twelve\u0000bytes']],
  [
    { kind: 'binary' },
    [new Uint8Array(0), new Uint8Array([0, 255]), new Uint8Array(12).fill(7), new Uint8Array(13).fill(9), null, randomBytes(3000)],
  ],
  [{ kind: 'fixed', length: 5 }, [new Uint8Array([1, 2, 3, 4, 5]), null, new Uint8Array(5)]],
  [{ kind: 'fixed', length: 20 }, [new Uint8Array(20).fill(1), null, new Uint8Array(20)]],
  [
    { kind: 'uuid' },
    [new Uint8Array(16), new Uint8Array(16).fill(255), Uint8Array.from({ length: 16 }, (_, index) => index * 16 + index), null],
  ],
  ...[1, 4, 5, 9, 10, 18, 19, 38].map((precision): readonly [FieldType, readonly Value[]] => [
    { kind: 'decimal', precision, scale: Math.min(2, precision - 1) },
    [0n, 1n, -1n, 10n ** BigInt(precision) - 1n, 1n - 10n ** BigInt(precision), null],
  ]),
  [listOf({ kind: 'int' }), [[], [1], [1, null, 3], null, [4]]],
  [listOf(string), [['a', 'a longer text than twelve', null, ''], [], null, ['z'.repeat(100)]]],
  [listOf({ kind: 'boolean' }), [[true, false, null], null, []]],
  [listOf({ kind: 'uuid' }), [[new Uint8Array(16).fill(128)], null]],
  [listOf({ kind: 'decimal', precision: 7, scale: 3 }), [[1n, -1n, null], [9_999_999n]]],
  [listOf({ kind: 'timestamptz' }), [[0n, null], []]],
  [listOf({ kind: 'binary' }), [[new Uint8Array(40).fill(3), null], null, []]],
  [listOf(listOf({ kind: 'int' })), [[[1, null], [], null], [], null, [[2]]]],
  [structOf({ kind: 'int' }, string), [[1, 'a text longer than twelve'], null, [null, null], [-1, '']]],
  [
    structOf(listOf(string), structOf({ kind: 'uuid' }, { kind: 'decimal', precision: 7, scale: 3 })),
    [
      [
        ['x', null],
        [new Uint8Array(16).fill(128), 5n],
      ],
      [[], null],
      null,
      [null, [null, null]],
    ],
  ],
  [listOf(structOf({ kind: 'boolean' }, string)), [[[true, 'x'.repeat(40)], null, [null, 'y']], [], null]],
]
