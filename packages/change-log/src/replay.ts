import { formatLsn, MoonlinkError, type LogEntry, type Lsn } from '@moonlink/core'
import type { LogDisk } from './log-disk.ts'
import { readAhead } from './read-ahead.ts'
import { readRecord } from './record-format.ts'
import { corrupt, type LogPlace, type Segment } from './recover.ts'
import { parseHeader } from './segment-format.ts'

/** What the segments have behind `after`, up to `end`. Throws `invalid`/`LOG_LSN_NOT_HELD` and `corrupt`/`LOG_CORRUPT`. */
export async function* replay(
  disk: LogDisk,
  segments: readonly Segment[],
  end: LogPlace | null,
  after: Lsn,
): AsyncGenerator<LogEntry, void, undefined> {
  const first = segments.findLastIndex(({ isCut, startLsn }) => isCut && startLsn <= after)
  if (end === null || first < 0)
    throw new MoonlinkError('invalid', 'LOG_LSN_NOT_HELD', `the change log does not reach back to ${formatLsn(after)}.`)
  const taken = segments.slice(first).filter(({ sequence }) => sequence <= end.sequence)
  for await (const { bytes, item: segment } of readAhead(taken, disk.readsAtOnce, ({ name }) => disk.read(name))) {
    const header = parseHeader(bytes, disk.locate(segment.name))
    if (header === null) throw corrupt(disk.locate(segment.name), 0)
    if (segment === taken[0]) yield { kind: 'state', bytes: header.state }
    else if (segment.isSession) yield { kind: 'session' }
    const limit = segment.sequence === end.sequence ? end.offset : segment.length
    for (let at = segment.headerLength; at < limit;) {
      const record = readRecord(bytes, at)
      if (record === null) throw corrupt(disk.locate(segment.name), at)
      yield { kind: 'frames', bytes: record.payload }
      at = record.next
    }
  }
}
