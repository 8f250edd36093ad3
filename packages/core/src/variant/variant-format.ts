/** Numbers of Parquet's Variant encoding (VariantEncoding.md of apache/parquet-format). */

export const BasicType = { primitive: 0, shortString: 1, object: 2, array: 3 } as const

export const PrimitiveId = {
  null: 0,
  true: 1,
  false: 2,
  int8: 3,
  int16: 4,
  int32: 5,
  int64: 6,
  decimal4: 8,
  decimal8: 9,
  decimal16: 10,
  string: 16,
} as const

/** Longer strings carry their length in four bytes. */
export const MAX_SHORT_STRING = 63

/** Containers of more elements count them in four bytes. */
export const MAX_SMALL_COUNT = 255

/** Version 1, and that of the dictionary's flags which says that it is sorted. */
export const METADATA_VERSION = 1
export const METADATA_SORTED = 0x10
