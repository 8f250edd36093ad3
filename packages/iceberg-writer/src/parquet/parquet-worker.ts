import { parentPort } from 'node:worker_threads'
import { encodeParquet, encodeRowGroups } from './encode.ts'
import { transferList } from './transfer-list.ts'
import { errorMessage, type Jobs, type JobKind, type WorkerRequest, type WorkerResponse } from './worker-messages.ts'

/** The reader, with its WebAssembly, is loaded by the first job that reads: a thread that only writes does without. */
let reader: typeof import('./decode.ts') | null = null

parentPort!.on('message', (request: WorkerRequest) => void serve(request))

async function serve(request: WorkerRequest): Promise<void> {
  const response = await answer(request)
  parentPort!.postMessage(response, response.ok ? transferList(response.result) : [])
}

async function answer(request: WorkerRequest): Promise<WorkerResponse> {
  try {
    const result = await run(request)
    return { ok: true, result, memoryBytes: memoryBytes() }
  } catch (error) {
    return { ok: false, error: errorMessage(error, request.kind), memoryBytes: memoryBytes() }
  }
}

function memoryBytes(): number {
  return reader?.wasmMemoryBytes() ?? 0
}

async function run(request: WorkerRequest): Promise<Jobs[JobKind]['result']> {
  if (request.kind === 'encode') return encodeParquet(request.rows, request.schema, request.options)
  if (request.kind === 'groups') return encodeRowGroups(request.rows, request.schema, request.options)
  reader ??= await import('./decode.ts')
  switch (request.kind) {
    case 'plan':
      return reader.planScan(request.source, request.fields, request.lineage)
    case 'read':
      return reader.readWindow(request.source, request.window, request.fields, request.lineage)
    case 'fetch':
      return reader.fetchRows(request.source, request.positions, request.fields)
  }
}
