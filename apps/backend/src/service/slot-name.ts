import { createHash } from 'node:crypto'

const nameChars = 40
const hashChars = 8

/** The slot of a database that no configuration names. Slots are of the whole server, so two databases always get two names. */
export function defaultSlotName(database: string): string {
  const name = `moonlink_${database.replaceAll(/[^a-z0-9_]/g, '_')}`
  if (name === `moonlink_${database}` && name.length <= nameChars) return name
  const hash = createHash('sha256').update(database).digest('hex').slice(0, hashChars)
  return `${name.slice(0, nameChars - hashChars - 1)}_${hash}`
}
