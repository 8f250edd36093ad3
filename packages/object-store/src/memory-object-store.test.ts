import { describeObjectStore } from '@moonlink/testkit'
import { MemoryObjectStore } from './memory-object-store.ts'

describeObjectStore('MemoryObjectStore', async () => ({ store: new MemoryObjectStore(), root: 'memory://bucket/objects/' }))
