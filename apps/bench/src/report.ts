/** One measured figure of a scenario beside its ceiling, measured in the same run. */
export interface Measurement {
  readonly scenario: string
  readonly rows: number
  readonly seconds: number
  readonly rowsPerSecond: number
  readonly ceiling: string
  readonly ceilingSeconds: number | null
  /** Our speed as a share of the ceiling's: 1 is as fast. For reads: the ceiling's time as a share of ours. */
  readonly ratio: number | null
  readonly mark: string
  readonly cpuSecondsPerMillionRows: number | null
  readonly peakRssMiB: number | null
  readonly details: Readonly<Record<string, number | string>>
}

export function measurement(
  scenario: string,
  rows: number,
  seconds: number,
  ceiling: { name: string; seconds: number | null },
  mark: string,
  more: Partial<Pick<Measurement, 'cpuSecondsPerMillionRows' | 'peakRssMiB' | 'details'>> = {},
): Measurement {
  return {
    scenario,
    rows,
    seconds,
    rowsPerSecond: Math.round(rows / seconds),
    ceiling: ceiling.name,
    ceilingSeconds: ceiling.seconds,
    ratio: ceiling.seconds === null ? null : ceiling.seconds / seconds,
    mark,
    cpuSecondsPerMillionRows: more.cpuSecondsPerMillionRows ?? null,
    peakRssMiB: more.peakRssMiB ?? null,
    details: more.details ?? {},
  }
}

export function printTable(measurements: readonly Measurement[]): void {
  const header = ['scenario', 'rows', 'seconds', 'rows/s', 'ratio', 'mark', 'CPU-s/M', 'RSS MiB', 'ceiling', 'details']
  const rows = measurements.map((item) => [
    item.scenario,
    String(item.rows),
    item.seconds.toFixed(2),
    String(item.rowsPerSecond),
    item.ratio === null ? '-' : item.ratio.toFixed(2),
    item.mark,
    item.cpuSecondsPerMillionRows === null ? '-' : item.cpuSecondsPerMillionRows.toFixed(2),
    item.peakRssMiB === null ? '-' : String(Math.round(item.peakRssMiB)),
    item.ceilingSeconds === null ? item.ceiling : `${item.ceiling} ${item.ceilingSeconds.toFixed(2)} s`,
    Object.entries(item.details)
      .map(([name, value]) => `${name} ${value}`)
      .join(', '),
  ])
  const widths = header.map((name, column) => Math.max(name.length, ...rows.map((row) => row[column].length)))
  for (const row of [header, ...rows]) console.log(row.map((cell, column) => cell.padEnd(widths[column])).join('  '))
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
}

/** To hundredths, still a number, as the JSON has it. */
export function rounded(value: number): number {
  return Math.round(value * 100) / 100
}
