import { silentLogger } from '@moonlink/core'
import pg from 'pg'
import { expect, test } from 'vitest'
import { FollowedHistory, historyServer, parseTimelineHistory, type HistoryServer } from './server-history.ts'

const files: Record<number, string> = {
  2: '1\t0/3000028\tno recovery target specified\n',
  3: '1\t0/3000028\tno recovery target specified\n2\tA/5000A0\tno recovery target specified\n',
  4: '1\t0/3000028\tno recovery target specified\n\n2\tA/5000A0\tbefore 2026-01-01\n3\tB/0\tat restore point "1\t2"\n',
  5: '1\t0/2000000\tno recovery target specified\n',
}

/** A server that says it is on that timeline, with so much log. */
function server(timeline: number, flush: string, systemid = '7'): HistoryServer {
  const query = async (sql: string) => {
    if (sql === 'IDENTIFY_SYSTEM') return { rows: [{ systemid, timeline, xlogpos: flush }] }
    return { rows: [{ content: Buffer.from(files[Number(sql.split(' ')[1])]) }] }
  }
  return historyServer({ query } as unknown as pg.Client)
}

test('a history file is read line by line', () => {
  expect(parseTimelineHistory(files[4])).toEqual([
    { timeline: 1, endLsn: 0x3000028n },
    { timeline: 2, endLsn: 0xa005000a0n },
    { timeline: 3, endLsn: 0xb00000000n },
  ])
})

const told = async (read: number | null, reached: bigint, from: HistoryServer) => {
  const remembered: (number | null)[] = []
  const history = new FollowedHistory('7', silentLogger)
  history.resume(read, read === 1 ? 0n : null, async () => void remembered.push(history.timeline))
  history.reached(reached)
  const outcome = await history.follow(from).then(
    () => 'goes on',
    ({ kind, code }: { kind: string; code: string }) => `${kind} ${code}`,
  )
  return [outcome, history.timeline, remembered]
}

test('a stream goes on where the server has what was read, and the timeline is written down first', async () => {
  expect(await told(null, 5n, server(3, '0/10'))).toEqual(['goes on', 3, [3]])
  // Where it began is what is new.
  expect(await told(3, 5n, server(3, '0/10'))).toEqual(['goes on', 3, [3]])
  expect(await told(1, 5n, server(1, '0/10'))).toEqual(['goes on', 1, []])
  expect(await told(1, 0x3000028n, server(2, '0/4000000'))).toEqual(['goes on', 2, [2]])
  expect(await told(2, 0xa005000a0n, server(4, 'C/0'))).toEqual(['goes on', 4, [4]])
})

test('a server that lacks what was read is refused, and the timeline that was read stays known', async () => {
  expect(await told(1, 0x3000029n, server(2, '0/4000000'))).toEqual(['invalid PG_DIVERGED', 1, []])
  expect(await told(2, 1n, server(5, '0/4000000'))).toEqual(['invalid PG_DIVERGED', 2, []])
  expect(await told(4, 1n, server(2, '0/4000000'))).toEqual(['invalid PG_DIVERGED', 4, []])
  expect(await told(1, 0x5000000n, server(2, '0/4000000'))).toEqual(['retry PG_BEHIND', 1, []])
  expect(await told(1, 1n, server(1, '0/4000000', '8'))).toEqual(['invalid PG_OTHER_CLUSTER', 1, []])
})

test('a server that was promoted beside the one that was read, to the same number, is told by where its timeline began', async () => {
  const history = new FollowedHistory('7', silentLogger)
  const remembered: unknown[] = []
  // Of the one whose timeline 2 began sooner.
  history.resume(2, 0x2000000n, async () => void remembered.push([history.timeline, history.sinceLsn]))
  history.reached(0x2000001n)
  await expect(history.beginCopy(server(2, '0/4000000'))).rejects.toMatchObject({ kind: 'retry', code: 'PG_TIMELINE_UNCHECKED' })
  await expect(history.follow(server(2, '0/4000000'))).rejects.toMatchObject({
    kind: 'invalid',
    code: 'PG_DIVERGED',
    message: expect.stringMatching(/began at 0\/3000028.* 0\/2000000: another server was promoted beside it/) as string,
    context: { left: '0/2000000' },
  })
  history.acceptAny()
  await history.follow(server(2, '0/4000000'))
  expect(remembered).toEqual([[2, 0x3000028n]])
})

test('of two servers that were promoted beside each other either will do for what was read before both', async () => {
  const history = new FollowedHistory('7', silentLogger)
  history.resume(2, 0x3500000n, () => Promise.resolve())
  history.reached(0x3000028n)
  await history.follow(server(2, '0/4000000'))
  expect(history.sinceLsn).toBe(0x3000028n)
})

test('a server that lacks the file of its history is believed, and where the timeline began stays known', async () => {
  const history = new FollowedHistory('7', silentLogger)
  history.resume(2, 0x3000028n, () => Promise.reject(new Error('nothing is to be written')))
  const lacks = Object.assign(new pg.DatabaseError('could not open file "pg_wal/00000002.history"', 1, 'error'), { code: '58P01' })
  const gone = { ...server(2, '0/4000000'), timelineHistory: () => Promise.reject(lacks) }
  await history.follow(gone)
  expect(history.sinceLsn).toBe(0x3000028n)
})

test('what is compared anew may be of any timeline', async () => {
  const history = new FollowedHistory('7', silentLogger)
  history.resume(1, 0n, () => Promise.resolve())
  history.reached(0x3000029n)
  history.acceptAny()
  await history.follow(server(2, '0/4000000'))
  expect(history.timeline).toBe(2)
})

test('a log that ends before what was read, on whatever timeline, is of another history', async () => {
  expect(await told(null, 0x5000000n, server(1, '0/4000000'))).toEqual(['invalid PG_DIVERGED', 0, [0]])
})

test('what a server of an unknown history lacked once is known to be another, also after a crash and once its log has come so far', async () => {
  expect(await told(null, 0x5000000n, server(2, '0/4000000'))).toEqual(['invalid PG_DIVERGED', 0, [0]])
  expect(await told(0, 0x5000000n, server(2, '0/4000000'))).toEqual(['retry PG_BEHIND', 0, []])
  expect(await told(0, 0x5000000n, server(2, '0/6000000'))).toEqual(['invalid PG_DIVERGED', 0, []])
  expect(await told(0, 0x5000000n, server(1, '0/6000000'))).toEqual(['invalid PG_DIVERGED', 0, []])
})

test('a server of the same timeline that lacks some of it, as one restored from a snapshot of its disk, is known to be another once its log has come so far', async () => {
  expect(await told(1, 0x5000000n, server(1, '0/4000000'))).toEqual(['invalid PG_DIVERGED', 0, [0]])
  expect(await told(0, 0x5000000n, server(1, '0/4000000'))).toEqual(['retry PG_BEHIND', 0, []])
  expect(await told(0, 0x5000000n, server(1, '0/6000000'))).toEqual(['invalid PG_DIVERGED', 0, []])
})

test('nothing is copied from one that lacks some of it', async () => {
  const history = new FollowedHistory('7', silentLogger)
  history.resume(1, 0n, () => Promise.resolve())
  history.reached(0x5000000n)
  await expect(history.beginCopy(server(1, '0/4000000'))).rejects.toMatchObject({ code: 'PG_DIVERGED' })
  await expect(history.beginCopy(server(1, '0/6000000'))).rejects.toMatchObject({ kind: 'retry', code: 'PG_TIMELINE_UNCHECKED' })
})

test('where tables were looked at on a new primary is of its timeline, not of the one that was read', async () => {
  const history = new FollowedHistory('7', silentLogger)
  history.resume(1, 0n, () => Promise.resolve())
  const at = { table: { schema: 'public', name: 't' }, shape: { schema: { fields: [], identifierFieldIds: [] }, sourceState: null } }
  history.looked(2, 0x4000000n)
  history.resumes(0x4000000n, undefined, [{ ...at, throughLsn: 0x4000000n, readThroughLsn: 7n }])
  await history.follow(server(2, '0/4000000'))
  expect([history.timeline, history.reachedLsn]).toEqual([2, 0x4000000n])
})

test('a server that lacks what tables were looked at is refused, until they are looked at anew', async () => {
  const history = new FollowedHistory('7', silentLogger)
  history.resume(1, 0n, () => Promise.resolve())
  history.looked(2, 0xa005000a1n)
  await expect(history.follow(server(4, 'C/0'))).rejects.toMatchObject({
    code: 'PG_DIVERGED',
    message: expect.stringMatching('left timeline 2') as string,
  })
  history.forgetLooks()
  expect(history.reachedLsn).toBe(0xa005000a1n)
  history.looked(4, 0xb00000000n)
  await history.follow(server(4, 'C/0'))
  expect(history.timeline).toBe(4)
})

test('a copy counts as read, whatever the stream had come to', async () => {
  const history = new FollowedHistory('7', silentLogger)
  history.resume(1, 0n, () => Promise.resolve())
  history.copied(await history.beginCopy(server(1, '0/3000100')), 0x3000100n)
  history.resumes(0x3000000n, undefined, [])
  expect(history.reachedLsn).toBe(0x3000100n)
  await expect(history.follow(server(2, '0/4000000'))).rejects.toMatchObject({ code: 'PG_DIVERGED' })
})

test('a copy that an earlier process began counts, too', async () => {
  const history = new FollowedHistory('7', silentLogger)
  history.resume(1, 0n, () => Promise.resolve())
  const at = { table: { schema: 'public', name: 't' }, shape: { schema: { fields: [], identifierFieldIds: [] }, sourceState: null } }
  history.resumes(5n, undefined, [{ ...at, throughLsn: 7n, copiedLsn: 0x3000029n }])
  await expect(history.follow(server(2, '0/4000000'))).rejects.toMatchObject({ code: 'PG_DIVERGED' })
})

test('a copy waits until the stream has found what was read on a new timeline', async () => {
  const history = new FollowedHistory('7', silentLogger)
  const remembered: (number | null)[] = []
  history.resume(1, 0n, async () => void remembered.push(history.timeline))
  history.reached(0x3000028n)
  const promoted = server(2, '0/4000000')
  await expect(history.beginCopy(promoted)).rejects.toMatchObject({ kind: 'retry', code: 'PG_TIMELINE_UNCHECKED' })
  await history.follow(promoted)
  const timeline = await history.beginCopy(promoted)
  history.copied(timeline, 0x4000000n)
  expect([timeline, history.reachedLsn]).toEqual([2, 0x4000000n])
  expect(() => history.copied(1, 0x4000000n)).toThrow(expect.objectContaining({ code: 'PG_TIMELINE_UNCHECKED' }))
  await expect(history.beginCopy(server(2, '0/4000000', '8'))).rejects.toMatchObject({ code: 'PG_OTHER_CLUSTER' })
  expect(remembered).toEqual([2])
})

test('a copy from a server that lacks what was read is not taken for the one that was read', async () => {
  const history = new FollowedHistory('7', silentLogger)
  history.resume(null, null, () => Promise.resolve())
  history.reached(0x5000000n)
  await expect(history.beginCopy(server(2, '0/4000000'))).rejects.toMatchObject({ code: 'PG_DIVERGED' })
  await expect(history.follow(server(2, '0/4000000'))).rejects.toMatchObject({ kind: 'retry', code: 'PG_BEHIND' })
  await expect(history.follow(server(2, '0/6000000'))).rejects.toMatchObject({ code: 'PG_DIVERGED' })
})

test('what is copied first says on which timeline all is', async () => {
  const history = new FollowedHistory('7', silentLogger)
  const remembered: (number | null)[] = []
  history.resume(null, null, async () => void remembered.push(history.timeline))
  history.copied(await history.beginCopy(server(1, '0/3000100')), 0x3000100n)
  expect(remembered).toEqual([1])
  await expect(history.follow(server(2, '0/4000000'))).rejects.toMatchObject({ code: 'PG_DIVERGED' })
})

/** What becomes of a stream where nothing is remembered but what tables say. */
const toldByTables = async (remembered: number | null, tables: readonly (readonly [number, bigint, bigint?])[], from: HistoryServer) => {
  const history = new FollowedHistory('7', silentLogger)
  history.resume(remembered, null, () => Promise.resolve())
  for (const [timeline, lsn, throughLsn = lsn] of tables) {
    history.committed({ timeline, lsn }, throughLsn)
    history.reached(throughLsn)
  }
  const before = history.certainTimeline
  const outcome = await history.follow(from).then(
    () => 'goes on',
    ({ kind, code }: { kind: string; code: string }) => `${kind} ${code}`,
  )
  return [before, outcome, history.certainTimeline]
}

test('where the state is lost, what tables have of a timeline tells whether the server has it, however long its log is', async () => {
  expect(await toldByTables(null, [[1, 0x3000028n]], server(2, '0/4000000'))).toEqual([1, 'goes on', 2])
  expect(await toldByTables(null, [[1, 0x3000029n]], server(2, '0/4000000'))).toEqual([1, 'invalid PG_DIVERGED', 1])
  expect(await toldByTables(null, [], server(2, '0/4000000'))).toEqual([null, 'goes on', 2])
})

test('each table is judged by the timeline of its own last commit', async () => {
  const later = [2, 0x3900000n] as const
  expect(await toldByTables(null, [[1, 0x3000028n], later], server(2, '0/4000000'))).toEqual([null, 'goes on', 2])
  expect(await toldByTables(null, [[1, 0x3000029n], later], server(2, '0/4000000'))).toEqual([null, 'invalid PG_DIVERGED', null])
  expect(await toldByTables(2, [[1, 0x3000029n], later], server(2, '0/4000000'))).toEqual([null, 'invalid PG_DIVERGED', null])
  // A state that is older than the tables: what it knows is not less strict.
  expect(await toldByTables(1, [later], server(2, '0/4000000'))).toEqual([null, 'invalid PG_DIVERGED', null])
})

test('what a table has beyond what it says of a timeline may be of any other, whose server goes on', async () => {
  const [known, beyond] = [0x3000028n, 0x3000100n]
  const table = [1, known, beyond] as const
  for (const remembered of [2, null]) {
    expect(await toldByTables(remembered, [table], server(2, '0/4000000'))).toEqual([null, 'goes on', 2])
    expect(await toldByTables(remembered, [[1, known + 1n, beyond]], server(2, '0/4000000'))).toEqual([null, 'invalid PG_DIVERGED', null])
  }
  expect(await toldByTables(null, [table, [1, known]], server(2, '0/4000000'))).toEqual([null, 'goes on', 2])
  expect(await toldByTables(null, [table], server(2, '0/3000050'))).toEqual([null, 'invalid PG_DIVERGED', null])
})

test('what is compared anew may have been committed on any timeline', async () => {
  const history = new FollowedHistory('7', silentLogger)
  history.resume(null, null, () => Promise.resolve())
  history.committed({ timeline: 1, lsn: 0x3000029n }, 0x3000029n)
  history.acceptAny()
  await history.follow(server(2, '0/4000000'))
  expect(history.certainTimeline).toBe(2)
})
