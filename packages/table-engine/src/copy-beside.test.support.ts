import { appendValue, BatchBuilder, isMoonlinkError } from '@moonlink/core'
import { setImmediate as turn } from 'node:timers/promises'
import type { Mirror } from './mirror.ts'
import type { ScriptedTable } from './testing/scripted-table.ts'

const PIECE_ROWS = 5

interface Copies {
  readonly source: ScriptedTable
  /** After a copy that failed: the mirror that begins anew. */
  reopen(): Promise<Mirror>
}

/** Reads the source's rows as of its last transaction into a mirror that waits for them, until that has succeeded or is wanted no more. */
export async function copyBeside(run: Copies, first: Mirror): Promise<void> {
  let mirror = first
  for (let attempt = mirror.copyAttempt; ; attempt = mirror.copyAttempt) {
    try {
      if (run.source.history.at(-1)!.schema === mirror.copiedShape.schema) return await copy(run.source, mirror)
    } catch (error) {
      if (!isMoonlinkError(error, 'retry')) throw error
      if (mirror.isClosed || mirror.currentPhase !== 'copying' || mirror.copyAttempt !== attempt) return
    }
    const isSettled = await settled(mirror)
    if (isSettled !== false || mirror.isClosed || mirror.currentPhase !== 'copying' || mirror.copyAttempt !== attempt) return
    mirror = await reopened(run)
  }
}

async function copy(source: ScriptedTable, mirror: Mirror): Promise<void> {
  const { lsn, rows, schema } = source.history.at(-1)!
  const attempt = mirror.copyAttempt
  await mirror.beginCopy({ boundaryLsn: lsn, horizon: '0', storage: null })
  for (let from = 0; from < rows.length; from += PIECE_ROWS) {
    await turn()
    if (mirror.copyAttempt !== attempt) return
    const builder = new BatchBuilder(schema.fields)
    for (const row of rows.slice(from, from + PIECE_ROWS)) row.forEach((value, column) => appendValue(builder.builders[column], value))
    await mirror.appendCopied(builder.view())
  }
  await turn()
  if (mirror.copyAttempt === attempt) await mirror.finishCopy(lsn)
}

/** Null where the mirror was closed. */
async function settled(mirror: Mirror): Promise<boolean | null> {
  for (;;) {
    try {
      return await mirror.settleCopy()
    } catch (error) {
      if (!isMoonlinkError(error, 'retry')) throw error
      if (mirror.isClosed) return null
    }
  }
}

async function reopened(run: Copies): Promise<Mirror> {
  for (;;) {
    try {
      return await run.reopen()
    } catch (error) {
      if (!isMoonlinkError(error, 'retry')) throw error
    }
  }
}
