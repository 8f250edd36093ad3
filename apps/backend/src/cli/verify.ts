import { isMoonlinkError, MoonlinkError } from '@moonlink/core'
import { formatCount } from '../config/units.ts'
import { verifyLineSchema, type VerifyLine } from '../http/schemas.ts'
import type { BackendClient } from './client.ts'
import { print, say } from './commands.ts'
import { visible, visibleJson } from '../visible.ts'

const SHOWN_DIFFERENCES = 10

type Verdict = Exclude<VerifyLine, { progress: unknown }>

/**
 * Compares tables and prints a line each. Throws, so that the exit status is 1, where one differs or could not be compared. With `repair`, those that
 * differ are made equal afterwards; where that can't begin for one, it is said of that one, and the others go on.
 */
export async function verifyTables(
  client: BackendClient,
  tables: readonly string[],
  options: { json?: boolean; repair?: boolean },
): Promise<void> {
  let checked = 0
  let bad = 0
  let repairing = 0
  const bar = process.stderr.isTTY && !options.json
  for await (const line of client.lines('/verify', { tables: tables.length === 0 ? null : tables })) {
    const event = client.understood(verifyLineSchema, line)
    if ('progress' in event) {
      if (bar) process.stderr.write(`\r\u001b[K${visible(progressText(event.progress))}`)
      continue
    }
    if (bar) process.stderr.write('\r\u001b[K')
    checked++
    if (event.result !== 'equal') bad++
    const isToRepair = event.result === 'different' && options.repair === true
    const repairFailure = isToRepair ? await beginRepair(client, event.table) : null
    if (isToRepair && repairFailure === null) repairing++
    if (options.json) await print(`${visibleJson(JSON.stringify(repairFailure === null ? event : { ...event, repairFailure }))}\n`)
    else for (const line of verdictLines(event, repairFailure)) await say(line)
  }
  if (checked < new Set(tables).size) {
    const message = `the backend ended with ${checked} of ${new Set(tables).size} tables compared; verify again.`
    throw new MoonlinkError('retry', 'RESULT_CUT', message)
  }
  if (checked === 0 && !options.json) await say('no table is mirrored, so none was compared; moonlink tables list shows what there is')
  if (repairing > 0 && !options.json) await say('what differs is being repaired; verify again when the tables are streaming')
  if (bad > 0)
    throw new MoonlinkError('corrupt', 'VERIFY_FAILED', `${bad} of ${checked} tables differ from the source or could not be compared.`)
}

/** Why a table's repair could not begin; null where it has. */
async function beginRepair(client: BackendClient, table: string): Promise<string | null> {
  try {
    await client.post(`/tables/${encodeURIComponent(table)}/resync`)
    return null
  } catch (error) {
    if (!isMoonlinkError(error)) throw error
    return `${error.code} ${error.message}`
  }
}

function progressText({ table, phase, done }: { table: string; phase: string; done: number }): string {
  const filled = Math.floor(done * 20)
  return `${table}: reading ${phase === 'rows' ? 'what differs' : `the ${phase}`} ${'█'.repeat(filled)}${'░'.repeat(20 - filled)}`
}

function verdictLines(verdict: Verdict, repairFailure: string | null): string[] {
  const { table, result, lsn, sourceRows, mirrorRows, differences, moreDifferences } = verdict
  if (result === 'failed') return [`${table}: could not be compared: ${verdict.reason}`]
  if (result === 'equal') return [`${table}: equal at ${lsn}, ${formatCount(sourceRows!, 'row')}`]
  const shown = differences.slice(0, SHOWN_DIFFERENCES).map(
    ({ kind, key }) =>
      `  ${kind}: ${key
        .map((value) => value ?? 'NULL')
        .join(', ')
        .slice(0, 200)}`,
  )
  const more = moreDifferences || differences.length > SHOWN_DIFFERENCES ? ['  …'] : []
  return [
    `${table}: DIFFERENT at ${lsn}: ${formatCount(sourceRows!, 'row')} in the source, ${mirrorRows!.toLocaleString('en-US')} in the mirror`,
    ...shown,
    ...more,
    ...(repairFailure === null ? [] : [`${table}: its repair could not begin: ${repairFailure}`]),
  ]
}
