import { expect } from 'vitest'

/** Waits for something that comes by itself, as long as a loaded machine may take (`vitest.config.ts`). What the check throws counts as not yet. */
export async function until(what: string, check: () => Promise<boolean>): Promise<void> {
  await expect.poll(check, { message: `waited too long for ${what}` }).toBe(true)
}
