import { formatLsn } from '@moonlink/core'
import type { VerifiedReport, VerifyLine } from '../http/schemas.ts'
import type { VerifyEvent, VerifyOutcome } from './verification.ts'

/** The last comparison of a table, for the status. */
export function verifiedReport(outcome: VerifyOutcome | undefined): VerifiedReport | null {
  if (outcome === undefined) return null
  const { atMs } = outcome
  if (outcome.kind === 'failed') return { result: 'failed', atMs, lsn: null, reason: `${outcome.code} ${outcome.message}` }
  return { result: outcome.verdict.equal ? 'equal' : 'different', atMs, lsn: formatLsn(outcome.verdict.lsn), reason: null }
}

/** Events as NDJSON. */
export async function* verifyLines(events: AsyncIterable<VerifyEvent>): AsyncGenerator<string> {
  for await (const event of events) yield `${JSON.stringify(lineOf(event))}\n`
}

function lineOf(event: VerifyEvent): VerifyLine {
  if (event.kind === 'progress') return { progress: event.progress }
  const { table, outcome } = event
  if (outcome.kind === 'failed') {
    const reason = `${outcome.code} ${outcome.message}`
    const nothing = { lsn: null, sourceRows: null, mirrorRows: null, differences: [], moreDifferences: false, durationMs: null }
    return { table, result: 'failed', reason, ...nothing }
  }
  const { lsn, equal, sourceRows, mirrorRows, differences, moreDifferences, durationMs } = outcome.verdict
  return {
    table,
    result: equal ? 'equal' : 'different',
    lsn: formatLsn(lsn),
    sourceRows,
    mirrorRows,
    differences: differences.map(({ kind, key }) => ({ kind, key: [...key] })),
    moreDifferences,
    durationMs,
    reason: null,
  }
}
