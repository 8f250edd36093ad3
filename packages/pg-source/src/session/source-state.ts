import { z } from 'zod'
import type { FieldIdMap } from '../types/index.ts'
import { relationShape, type RelationShape } from './relation-shape.ts'

/** Raised whenever an older Moonlink would misread a state. */
const VERSION = 1

/** Each is of one thing; what was given last is kept beside them. */
const fieldIds = z.record(z.string(), z.int().min(1).max(0x7fff_ffff)).refine((ids) => {
  const given = Object.entries(ids).flatMap(([path, id]) => (path === 'last' ? [] : [id]))
  return new Set(given).size === given.length
})

const sourceState = z.object({
  version: z.literal(VERSION),
  relation: relationShape,
  ids: fieldIds,
})

/** What a mirror keeps of its table with each commit: the shape that the rows had then, and the ids of its fields. */
export interface SourceState {
  readonly relation: RelationShape
  readonly ids: FieldIdMap
}

export function encodeSourceState({ relation, ids }: SourceState): string {
  return JSON.stringify({ version: VERSION, relation: relationShape.parse(relation), ids })
}

/** Null where there is none, or none that this version reads. */
export function decodeSourceState(text: string | null): SourceState | null {
  if (text === null) return null
  try {
    const { relation, ids } = sourceState.parse(JSON.parse(text))
    return { relation, ids }
  } catch {
    return null
  }
}
