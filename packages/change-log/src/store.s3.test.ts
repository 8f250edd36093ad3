import { randomBytes } from 'node:crypto'
import { silentLogger, systemClock, type Clock, type LeaseHolder } from '@moonlink/core'
import { S3ObjectStore } from '@moonlink/object-store'
import { describeChangeLog, describeLease } from '@moonlink/testkit'
import { afterAll } from 'vitest'
import { ObjectLease } from './lease/object-lease.ts'
import { ObjectLogDisk } from './object-log-disk.ts'
import { SegmentedLog } from './segmented-log.ts'
import { MortalDisk } from './testing/mortal-disk.ts'

function setting(name: string): string {
  const value = process.env[name]
  if (!value) throw new Error(`set ${name}: the S3 tests need MOONLINK_TEST_S3_ENDPOINT, …_ACCESS_KEY, …_SECRET_KEY and …_BUCKET`)
  return value
}

const store = new S3ObjectStore({
  endpoint: setting('MOONLINK_TEST_S3_ENDPOINT'),
  credentials: { accessKeyId: setting('MOONLINK_TEST_S3_ACCESS_KEY'), secretAccessKey: setting('MOONLINK_TEST_S3_SECRET_KEY') },
})
afterAll(() => store.close())
const root = `s3://${setting('MOONLINK_TEST_S3_BUCKET')}/moonlink-log-${randomBytes(4).toString('hex')}`
/** Syncs only where it is asked to. */
const never: Clock = { nowMs: () => systemClock.nowMs(), sleep: () => new Promise(() => {}) }
let places = 0

describeChangeLog('SegmentedLog in S3', async () => {
  const place = new ObjectLogDisk(store, `${root}/log-${places++}`)
  let disk = new MortalDisk(place)
  return {
    open: (options) => SegmentedLog.open({ disk, log: 'test', clock: never, logger: silentLogger, ...options }),
    crash: async () => {
      await disk.die()
      disk = new MortalDisk(place)
    },
  }
})

describeLease('ObjectLease in S3', async () => {
  const prefix = `${root}/lease-${places++}/`
  return {
    open: (holder: LeaseHolder, clock: Clock) => new ObjectLease({ store, prefix, holder, clock, renewIntervalMs: 20, takeoverMs: 200 }),
  }
})
