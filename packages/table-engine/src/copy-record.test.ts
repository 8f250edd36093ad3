import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { serialize } from 'node:v8'
import { crc32 } from 'node:zlib'
import { silentLogger, systemDisk } from '@moonlink/core'
import { damaged, damages, fuzzing, SimulatedLocalDisk } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { CopyRecord } from './copy-record.ts'

let directory: string
let path: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'moonlink-record-'))
  path = join(directory, 'deep', 'record')
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const fileOf = (name: string) => ({
  staged: { path: name, recordCount: 3, sizeBytes: 10, metrics: { bounds: Uint8Array.of(1, 2) } },
  runs: [{ range: { from: 0, to: 2 }, count: 3 }],
})

async function written(disk = systemDisk): Promise<CopyRecord> {
  const record = new CopyRecord(disk, path, 'rows', silentLogger)
  await record.begin({ boundaryLsn: 5n, storage: '1/1', horizon: '7' })
  await record.addFile(fileOf('a'))
  await record.addDone({ from: 0, to: 2 })
  await record.begin({ boundaryLsn: 9n, storage: '1/1', horizon: '8' })
  await record.addFile(fileOf('b'))
  return record
}

const loaded = async (fingerprint = 'rows', disk = systemDisk) => {
  const record = new CopyRecord(disk, path, fingerprint, silentLogger)
  await record.load()
  return record
}

test('another process finds what was recorded and goes on with it; a record of other rows is none', async () => {
  const record = await written()
  const next = await loaded()
  expect(next.sessions).toEqual(record.sessions)
  expect(next.done).toEqual([{ from: 0, to: 2 }])
  await next.addDone({ from: 2, to: null })
  expect((await loaded()).sessions).toEqual(next.sessions)
  expect((await loaded('other rows')).sessions).toEqual([])
  await next.clear()
  expect((await loaded()).sessions).toEqual([])
})

test('a record that was cleared does not come back after a power cut: what it names is removed then', async () => {
  // Whatever was not synced is lost.
  const disk = new SimulatedLocalDisk({ next: () => 0.6 })
  const session = disk.session()
  const record = await written(session)
  const file = await session.open(path, 'update')
  await file.sync()
  await session.syncDirectory(dirname(path))
  expect((await loaded('rows', session)).sessions).toHaveLength(2)
  await record.clear()
  disk.cutPower()
  expect((await loaded('rows', disk.session())).sessions).toEqual([])
})

test('a record that nothing was written to is cleared, too', async () => {
  await new CopyRecord(systemDisk, path, 'rows', silentLogger).clear()
})

test('zeros behind the record are no entries', async () => {
  const record = await written()
  writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.alloc(100)]))
  expect((await loaded()).sessions).toEqual(record.sessions)
})

test('wherever the record is cut off or damaged, what stands before that counts, and goes on', async () => {
  const whole = await written()
  const bytes = readFileSync(path)
  let counts = 0
  for (let at = 0; at < bytes.length; at += 3) {
    for (const damaged of [bytes.subarray(0, at), Buffer.from(bytes.map((byte, index) => (index === at ? byte ^ 0x41 : byte)))]) {
      writeFileSync(path, damaged)
      const record = await loaded()
      const { files, sessions } = record
      expect(files).toEqual(whole.files.slice(0, files.length))
      if (sessions.length === 0) continue
      counts++
      await record.addDone({ from: 4, to: 6 })
      const again = await loaded()
      expect(again.done.at(-1)).toEqual({ from: 4, to: 6 })
      expect(again.files).toEqual(files)
    }
  }
  expect(counts).toBeGreaterThan(20)
})

test('entries that are whole and not ours end the record', async () => {
  const whole = await written()
  const bytes = readFileSync(path)
  for (const payload of [
    Buffer.from('no value'),
    serialize(null),
    serialize({ kind: 'other' }),
    serialize([1]),
    Buffer.from([0xff, 0x99, 0x6f]),
  ]) {
    const header = Buffer.alloc(8)
    header.writeUInt32LE(payload.length, 0)
    header.writeUInt32LE(crc32(payload), 4)
    writeFileSync(path, Buffer.concat([bytes, header, payload]))
    expect((await loaded()).sessions).toEqual(whole.sessions)
  }
})

test('whatever befalls the record, what is read of it is how it began', async () => {
  const whole = await written()
  const bytes = readFileSync(path)
  await fc.assert(
    fc.asyncProperty(damages, async (what) => {
      writeFileSync(path, damaged(bytes, what))
      const { done, files, sessions } = await loaded()
      expect(files).toEqual(whole.files.slice(0, files.length))
      expect(done).toEqual(whole.done.slice(0, done.length))
      expect(sessions.map(({ boundaryLsn }) => boundaryLsn)).toEqual([5n, 9n].slice(0, sessions.length))
    }),
    fuzzing(300),
  )
})
