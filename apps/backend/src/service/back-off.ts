import type { Random } from '@moonlink/core'

const firstMs = 200
const maxMs = 30_000

/** How long to wait after so many failures (0: the first): doubles up to a limit; between half and all of it, so that many backends do not come back at once. */
export function backOffMs(failures: number, random: Random): number {
  const ceiling = Math.min(maxMs, firstMs * 2 ** failures)
  return ceiling / 2 + (ceiling / 2) * (random.bytes(1)[0] / 255)
}
