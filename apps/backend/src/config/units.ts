const byteUnits: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
}

const timeUnits: Readonly<Record<string, number>> = { '': 1, ms: 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 }

/** Bytes from a number or from text such as `64MiB`, `1.5 GB` or `4096`; null for anything else. */
export function parseBytes(value: number | string): number | null {
  return parseWith(byteUnits, value)
}

/** Milliseconds from a number or from text such as `500ms`, `60s`, `5m` or `7d`; null for anything else. */
export function parseDurationMs(value: number | string): number | null {
  return parseWith(timeUnits, value)
}

function parseWith(units: Readonly<Record<string, number>>, value: number | string): number | null {
  if (typeof value === 'number') return Number.isFinite(value) && value >= 0 ? Math.round(value) : null
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*$/.exec(value)
  const factor = match ? units[match[2].toLowerCase()] : undefined
  return factor === undefined ? null : Math.round(Number(match![1]) * factor)
}

/** `1.5 MiB`: for people. */
export function formatBytes(bytes: number): string {
  const names = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let power = 0
  while (bytes >= 1024 && power < names.length - 1) {
    bytes /= 1024
    power++
  }
  return `${power === 0 || bytes >= 100 ? Math.round(bytes) : bytes.toFixed(1)} ${names[power]}`
}

/** `16 MiB` for `16.0 MiB`: for a bound in a sentence. */
export function withoutZero(formatted: string): string {
  return formatted.replace('.0 ', ' ')
}

/** `1 row`, `2,000 rows`: for people. */
export function formatCount(count: number | bigint, noun: string): string {
  return `${count.toLocaleString('en-US')} ${noun}${Number(count) === 1 ? '' : 's'}`
}

/** `340 ms`, `4.2 s`, `3 min`: for people. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`
  if (ms < 3_600_000) return `${Math.round(ms / 60_000)} min`
  return `${(ms / 3_600_000).toFixed(1)} h`
}
