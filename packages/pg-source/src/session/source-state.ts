import { z } from 'zod'
import type { FieldIdMap } from '../types/index.ts'
import { relationShape, type RelationShape } from './relation-shape.ts'

/** Raised whenever an older Moonlink would misread a state. */
const VERSION = 1

const sourceState = z.object({
  version: z.literal(VERSION),
  relation: relationShape,
  ids: z.record(z.string(), z.number()),
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
