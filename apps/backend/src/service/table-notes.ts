import type { ListedTable } from '../http/schemas.ts'

/**
 * What is told of tables at a start: what their mirrors lack, and where `tables add` and `tables drop` of earlier runs, which outlast a restart,
 * make them others than those that are named (`configured`; empty: all).
 */
export function tableNotes(listed: readonly ListedTable[], configured: readonly string[]): string[] {
  const lacks = listed.flatMap(({ name, mirrored, notes }) => (mirrored ? notes.map((note) => `${name}: ${note}`) : []))
  const dropped = listed.filter(
    ({ name, mirrored, reason }) => !mirrored && reason === null && (configured.length === 0 || configured.includes(name)),
  )
  const added = configured.length === 0 ? [] : listed.filter(({ name, mirrored }) => mirrored && !configured.includes(name))
  return [
    ...lacks,
    ...added.map(({ name }) => `${name}: mirrored too, since moonlink tables add; moonlink tables drop ${name} ends that`),
    ...dropped.map(({ name }) => `${name}: not mirrored, since moonlink tables drop; moonlink tables add ${name} takes it on again`),
  ]
}
