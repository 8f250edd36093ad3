import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger, systemClock, type ByteRange, type Clock, type Lsn, type ObjectMeta, type ObjectStore } from '@moonlink/core'
import { describeChangeLog } from '@moonlink/testkit'
import { afterAll } from 'vitest'
import { LocalLogDisk } from './local-log-disk.ts'
import type { LogDisk } from './log-disk.ts'
import { ObjectLogDisk } from './object-log-disk.ts'
import { SegmentedLog } from './segmented-log.ts'
import { MortalDisk } from './testing/mortal-disk.ts'
import { SimulatedDisk } from './testing/simulated-disk.ts'

const directory = mkdtempSync(join(tmpdir(), 'moonlink-log-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** Syncs only where it is asked to. */
const never: Clock = { nowMs: () => systemClock.nowMs(), sleep: () => new Promise(() => {}) }

const openOn = (disk: LogDisk) => (options: { sourceFromLsn: Lsn; segmentBytes: number; maxBytes: number }) =>
  SegmentedLog.open({ disk, log: 'test', clock: never, logger: silentLogger, ...options })

/** Processes die, and the place they wrote to keeps what reached it, or what a crash of the machine leaves. */
function placeOn(place: LogDisk, crash: (seed: number) => void = () => {}) {
  let disk = new MortalDisk(place)
  return {
    open: (options: Parameters<ReturnType<typeof openOn>>[0]) => openOn(disk)(options),
    crash: async (seed: number) => {
      await disk.die()
      crash(seed)
      disk = new MortalDisk(place)
    },
  }
}

describeChangeLog('SegmentedLog on a simulated disk', async () => {
  const disk = new SimulatedDisk()
  return placeOn(disk, (seed) => {
    const share = (of: number) => ((seed * of) % 97) / 96
    disk.crash([
      { keep: share(31), garbageAt: seed % 3 === 0 ? share(57) : null },
      { keep: share(13), garbageAt: seed % 5 === 0 ? share(7) : null },
    ])
  })
})

let places = 0
describeChangeLog('SegmentedLog on a local disk', async () => placeOn(new LocalLogDisk(join(directory, String(places++)))))
describeChangeLog('SegmentedLog in an object store', async () => placeOn(new ObjectLogDisk(new MapStore(), 'memory://logs/one')))

/** The least of an object store. */
class MapStore implements ObjectStore {
  private readonly objects = new Map<string, Uint8Array>()

  async get(uri: string, _range?: ByteRange): Promise<Uint8Array> {
    return this.objects.get(uri)!.slice()
  }

  async head(uri: string): Promise<ObjectMeta | null> {
    const bytes = this.objects.get(uri)
    return bytes === undefined ? null : { uri, size: bytes.length, modifiedMs: 0 }
  }

  async put(uri: string, bytes: Uint8Array): Promise<void> {
    this.objects.set(uri, bytes.slice())
  }

  async putIfAbsent(uri: string, bytes: Uint8Array): Promise<'created' | 'exists'> {
    if (this.objects.has(uri)) return 'exists'
    await this.put(uri, bytes)
    return 'created'
  }

  async *list(prefix: string): AsyncGenerator<ObjectMeta> {
    for (const uri of this.objects.keys()) if (uri.startsWith(prefix)) yield (await this.head(uri))!
  }

  async delete(uri: string): Promise<void> {
    this.objects.delete(uri)
  }
}
