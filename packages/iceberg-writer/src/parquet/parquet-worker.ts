import { parentPort } from 'node:worker_threads'
import { fetchRows, planScan, readWindow } from './decode.ts'
import { encodeParquet, wasmMemoryBytes } from './encode.ts'
import { transferList } from './transfer-list.ts'
import { errorMessage, type Jobs, type JobKind, type WorkerRequest, type WorkerResponse } from './worker-messages.ts'

parentPort!.on('message', (request: WorkerRequest) => {
  const response = answer(request)
  parentPort!.postMessage(response, response.ok ? transferList(response.result) : [])
})

function answer(request: WorkerRequest): WorkerResponse {
  try {
    const result = run(request)
    return { ok: true, result, memoryBytes: wasmMemoryBytes() }
  } catch (error) {
    return { ok: false, error: errorMessage(error, request.kind), memoryBytes: wasmMemoryBytes() }
  }
}

function run(request: WorkerRequest): Jobs[JobKind]['result'] {
  switch (request.kind) {
    case 'encode':
      return encodeParquet(request.rows, request.schema, request.options)
    case 'plan':
      return planScan(request.source, request.fields, request.lineage)
    case 'read':
      return readWindow(request.source, request.window, request.fields, request.lineage)
    case 'fetch':
      return fetchRows(request.source, request.positions, request.fields)
  }
}
