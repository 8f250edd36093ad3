import { MemoryObjectStore } from '@moonlink/object-store'
import { damaged, damagedJson, damages, fuzzing, readOrRefuse } from '@moonlink/testkit'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { LeaseRecords } from './lease-records.ts'

const PREFIX = 'memory:///lease/'
const store = new MemoryObjectStore()
const records = new LeaseRecords(store, PREFIX)
const holder = { id: 'a', home: 'host', name: 'moonlink' }
await records.claim(3, holder, 5000)
const uri = `${PREFIX}000000003.json`
const bytes = await store.get(uri)

async function readAs(content: Uint8Array): Promise<void> {
  await store.put(uri, content)
  const record = await readOrRefuse(() => records.read(3))
  if (record === null) return
  expect(Object.values(record.holder).every((text) => typeof text === 'string')).toBe(true)
  expect(Number.isSafeInteger(record.renewals) && record.renewals >= 0).toBe(true)
  expect(typeof record.isReleased).toBe('boolean')
}

test('a lease of any JSON, and one that is damaged, is read as one or refused', async () => {
  for (const { value } of damagedJson(JSON.parse(new TextDecoder().decode(bytes)) as never)) {
    const text = JSON.stringify(value, (_, item: unknown) => (typeof item === 'bigint' ? Number(item) : item))
    await readAs(new TextEncoder().encode(text))
  }
  await fc.assert(
    fc.asyncProperty(damages, (what) => readAs(damaged(bytes, what))),
    fuzzing(500),
  )
})

test('names beside those of leases are no leases', async () => {
  for (const name of ['x.json', '0000000003.json', '000000009.json/deeper', '../000000009.json', '-00000009.json'])
    await store.put(`${PREFIX}${name}`, bytes)
  expect(await records.newestEpoch()).toBe(3)
})
