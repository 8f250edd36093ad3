/**
 * A value as JavaScript: boolean; number (int, date in days, float, double); bigint (long, time and timestamps in µs, decimal's
 * unscaled value); string (of a variant its text); Uint8Array (uuid, fixed, binary); array (list, and struct: its parts in order). For tests, edges and messages: it allocates.
 */
export type Value = null | boolean | number | bigint | string | Uint8Array | readonly Value[]
