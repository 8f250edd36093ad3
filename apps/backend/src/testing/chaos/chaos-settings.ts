/** Length of a chaos run: MOONLINK_CHAOS_MINUTES, or what is given. */
export function chaosSeconds(otherwise: number): number {
  const minutes = process.env['MOONLINK_CHAOS_MINUTES']
  return minutes === undefined ? otherwise : Number(minutes) * 60
}

/** MOONLINK_CHAOS_SEED for one that was printed; in CI always the same, elsewhere another each time. */
export function chaosSeed(ofCi: number): number {
  return Number(process.env['MOONLINK_CHAOS_SEED'] ?? (process.env['CI'] === undefined ? Date.now() % 1_000_000 : ofCi))
}

/** MOONLINK_CHAOS_TABLES of lists, beside the others. */
export const chaosListTables = Number(process.env['MOONLINK_CHAOS_TABLES'] ?? 1)

/** MOONLINK_CHAOS_KEEP=1 leaves a run's files where they are. */
export const keepsChaos = process.env['MOONLINK_CHAOS_KEEP'] !== undefined
