import type { Socket } from 'node:net'
import { isMoonlinkError } from '@moonlink/core'
import type { CatalogConnection } from './connect.ts'
import { sqlState } from './errors.ts'
import type { Session } from './server-session.ts'
import { LOOKS } from './unless-silent.ts'

const UNANSWERED: ReadonlySet<string> = new Set(['PG_CONNECTION_LOST', 'PG_UNREACHABLE', 'PG_NO_PRIMARY'])

/** Whom to ask about a session that is silent, and how long it may be so before; 0: for ever. */
export interface SilenceOptions {
  readonly connection: Pick<CatalogConnection, 'rows'>
  readonly patienceMs: number
}

/**
 * Watches a connection whose statement may take as long as it likes, such as one that waits for other transactions, or sums up a table. Where nothing comes for `patienceMs`, the server is asked for
 * it on another connection, and the connection is broken where that says twice in a row that nobody is at the statement any more, or is not answered: a server that is gone without a word, or a
 * network that swallows what is sent, would be waited for until TCP gives up, a quarter of an hour later, or for ever. `isWaiting`: whether something is to come just now. Returns what ends the watch.
 */
export function watchSilence({ client, pid }: Session, { connection, patienceMs }: SilenceOptions, isWaiting = () => true): () => void {
  if (patienceMs === 0) return () => {}
  const stream = client.connection.stream as Socket
  let heardBytes = stream.bytesRead
  let silentLooks = 0
  let isSuspected = false
  let isOver = false
  const look = async (): Promise<void> => {
    const isSilent = isWaiting() && stream.bytesRead === heardBytes
    heardBytes = stream.bytesRead
    if (!isSilent) {
      silentLooks = 0
      isSuspected = false
      return
    }
    if (++silentLooks < LOOKS && !isSuspected) return
    const trouble = await troubleOf(connection, pid)
    // Something may have come while that was asked.
    if (isOver || !isWaiting() || stream.bytesRead !== heardBytes) return
    silentLooks = 0
    if (trouble !== null && isSuspected) {
      stop()
      stream.destroy(new Error(trouble))
    }
    isSuspected = trouble !== null
  }
  let looking: Promise<void> | null = null
  const timer = setInterval(() => {
    looking ??= look().finally(() => (looking = null))
  }, patienceMs / LOOKS)
  const stop = () => {
    isOver = true
    clearInterval(timer)
  }
  return stop
}

/** Runs what may take as long as it likes under such a watch. */
export async function unlessGone<T>(session: Session, options: SilenceOptions, run: () => Promise<T>): Promise<T> {
  const stop = watchSilence(session, options)
  try {
    return await run()
  } finally {
    stop()
  }
}

/** Why nothing can come of what a session was asked; null where it is at it, or that can't be told. */
export async function troubleOf(connection: Pick<CatalogConnection, 'rows'>, pid: number): Promise<string | null> {
  try {
    // A session that waits for its client shows that (wait_event, monitoring.sgml), whatever it may show of its statement.
    const [session] = await connection.rows<{ waits: boolean }>(
      `SELECT coalesce(wait_event_type = 'Client' AND wait_event IN ('ClientRead', 'ClientWrite'), false) AS waits FROM pg_stat_activity WHERE pid = $1`,
      [pid],
    )
    if (session === undefined) return 'the server has ended the session without our hearing of it'
    return session.waits ? 'the server waits for us, and what it sent did not come' : null
  } catch (error) {
    // A refusal is an answer.
    const isUnanswered = isMoonlinkError(error) && UNANSWERED.has(error.code) && sqlState(error.cause) === null
    return isUnanswered ? 'the server is silent, and does not answer on another connection either' : null
  }
}
