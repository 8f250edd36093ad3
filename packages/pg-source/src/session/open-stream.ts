import { formatLsn, maxLsn, type ChangeLog, type Clock, type Lsn } from '@moonlink/core'
import pg from 'pg'
import { DEFAULT_OPEN_TRANSACTION_BYTES, StreamDecoder, type PartitionListener } from '../decode/index.ts'
import { LocalSpoolFiles } from '../spool/index.ts'
import type { PgSourceSettings } from './config.ts'
import { disconnect, type CatalogConnection, type Connector } from './connect.ts'
import type { MirrorSlot } from './mirror-slot.ts'
import { protocolOptions } from './protocol-options.ts'
import type { Publications } from './publication-state.ts'
import { RawConnection } from './raw-connection.ts'
import { ReplicationStream, type ReplicationOptions } from './replication-stream.ts'
import { keepaliveMsOf, senderTimeoutMs } from './sender-timeout.ts'
import { historyServer, type FollowedHistory } from './server-history.ts'
import { atOnce, serverProcess } from './server-session.ts'
import { checkNothingLost } from './slot.ts'
import type { StreamShapes } from './stream-shapes.ts'

/** What a stream is opened with. */
export interface StreamDependencies {
  readonly connector: Connector
  readonly connection: CatalogConnection
  readonly settings: PgSourceSettings
  readonly history: FollowedHistory
  readonly clock: Clock
  /** `server_version_num`. */
  readonly versionNumber: number
  readonly publications: () => Promise<Publications>
  readonly slot: MirrorSlot
}

/** What a stream begins with. */
export interface StreamBegin extends Pick<ReplicationOptions, 'decoder' | 'answer'> {
  readonly form: 'binary' | 'text'
  readonly after: Lsn
  readonly signal: AbortSignal
  readonly log?: ChangeLog
}

const BEGINNING = 'beginning its change stream'

/** Waits until nobody else streams from the slot, looks at what the server has lived through, and begins to read after `after`. */
export async function openStream(dependencies: StreamDependencies, begin: StreamBegin): Promise<ReplicationStream> {
  const { clock, connection, connector, history, settings, slot } = dependencies
  const { after, answer, decoder, log, signal } = begin
  await slot.waitUntilLetGo()
  const timeoutMs = await senderTimeoutMs(connection, settings)
  const command = await startCommand(dependencies, begin)
  signal.throwIfAborted()
  const client = await connector.connectReplication('stream')
  try {
    await atOnce(client, connector.patienceMs, BEGINNING, async () => {
      if (settings.senderTimeoutMs > 0) await client.query(`SET wal_sender_timeout = ${timeoutMs}`)
      // Of several servers behind an address, this may be another than the one whose catalog was read.
      await history.follow(historyServer(client))
    })
    // Whoever had the slot since, as while the log was read, may have let it go further.
    if (log !== undefined) checkNothingLost(settings.slot, await slot.usable(), after)
    decoder.beginSession()
    await log?.begin(after, () => decoder.exportState())
    // The last statement before the stream, since each has the server begin to check whether we are there, and START_REPLICATION does not.
    slot.streamedBy(await atOnce(client, connector.patienceMs, BEGINNING, () => serverProcess(client)))
  } catch (error) {
    await disconnect(client)
    throw error
  }
  const raw = new RawConnection(client, { isPaced: connector.isRemote, clock })
  const options: ReplicationOptions = {
    slot: settings.slot,
    command,
    decoder,
    answer,
    bufferBytes: settings.batchBytes,
    statusIntervalMs: settings.statusIntervalMs,
    keepaliveMs: keepaliveMsOf(timeoutMs),
    clock,
    onFailure: (error) => slot.failedWith(error),
    ...(log === undefined ? {} : { log }),
  }
  return ReplicationStream.start(raw, options, signal)
}

/** Looks at what the server has lived through. Throws as `FollowedHistory.follow` does. */
export async function checkHistory(connector: Connector, history: FollowedHistory): Promise<void> {
  const client = await connector.connectReplication('history')
  try {
    await atOnce(client, connector.patienceMs, 'asking for its history', () => history.follow(historyServer(client)))
  } finally {
    await disconnect(client)
  }
}

async function startCommand(
  { publications, settings, slot, versionNumber }: StreamDependencies,
  { after, form }: StreamBegin,
): Promise<string> {
  const { append } = await publications()
  const names = append === null ? [settings.publication] : [settings.publication, append.name]
  const options = [
    `publication_names ${pg.escapeLiteral(names.map((name) => pg.escapeIdentifier(name)).join(','))}`,
    `binary '${form === 'binary'}'`,
    ...protocolOptions(versionNumber, settings),
  ]
  // A prepared transaction of which the server was not told comes again only from where the slot is.
  const isTwoPhase = settings.twoPhase || (await slot.state())?.isTwoPhase === true
  const from = isTwoPhase ? 0n : maxLsn(after, 0n)
  return `START_REPLICATION SLOT ${pg.escapeIdentifier(settings.slot)} LOGICAL ${formatLsn(from)} (${options.join(', ')})`
}

/** What decodes a stream that begins after `after`. `isTold`: whether event triggers tell of schema changes. `partitions` hears of partitions. */
export function streamDecoder(
  settings: PgSourceSettings,
  shapes: StreamShapes,
  after: Lsn,
  isTold: boolean,
  partitions: PartitionListener,
): StreamDecoder {
  const { spoolDirectory, spoolMemoryBytes } = settings
  return new StreamDecoder({
    resolve: (relation) => shapes.resolve(relation),
    alterations: shapes,
    partitions,
    // What triggers tell need not be asked for.
    asks: (fits, table) => !fits || !isTold || !shapes.isTold(table),
    startLsn: after,
    // Past `batchBytes` the socket is not read: what is held then has to be there for the taking.
    openTransactionBytes: Math.min(DEFAULT_OPEN_TRANSACTION_BYTES, settings.batchBytes),
    skipThrough: (table) => maxLsn(after, shapes.throughOf(table)),
    spoolMemoryBytes,
    ...(spoolDirectory === undefined ? {} : { spoolFiles: new LocalSpoolFiles(spoolDirectory) }),
  })
}
