import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { systemClock, type Clock } from '@moonlink/core'
import type { S3ObjectStoreOptions } from './s3-options.ts'
import { S3ObjectStore } from './s3-object-store.ts'

/** An answer as it leaves the server. */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
  /** How it ends where not in order: the connection breaks, or nothing comes any more. */
  readonly end?: 'broken' | 'silent'
}

/** What becomes of one request: nothing special, done but unanswered, not done and unanswered, or an error answer; or done, and answered in another way; or not done, and answered so. */
export type Trouble =
  | 'none'
  | 'done, connection lost'
  | 'connection lost'
  | 'done, then 500'
  | 'silence'
  | { readonly status: number; readonly code?: string }
  | { readonly change: (answer: Answer) => Answer }
  | { readonly answer: Answer }

export interface ScriptedServerOptions extends S3ObjectStoreOptions {
  readonly keepsMetadata?: boolean
  /** Keys of a page of a list. */
  readonly pageKeys?: number
}

export interface ServedRequest {
  readonly method: string
  readonly url: URL
}

const hastyClock: Clock = { ...systemClock, sleep: () => Promise.resolve() }

/**
 * The least of S3: objects with metadata, ranges, `If-None-Match: *`, lists, multipart uploads, and trouble as scripted, one entry a request, or as a function chooses. With a store that speaks to
 * it.
 */
export async function startScripted(
  script: readonly Trouble[] | ((request: ServedRequest) => Trouble) = [],
  { keepsMetadata = true, pageKeys = 1000, ...options }: ScriptedServerOptions = {},
) {
  const objects = new Map<string, { body: Buffer; token: string | undefined }>()
  const uploads = new Map<string, { token: string | undefined; parts: Map<number, Buffer> }>()
  const lines: string[] = []
  const signers: (string | undefined)[] = []
  let uploadCount = 0
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => handle(request, response, Buffer.concat(chunks)))
  })

  function handle(request: IncomingMessage, response: ServerResponse, body: Buffer): void {
    const url = new URL(request.url!, 'http://x')
    const trouble = typeof script === 'function' ? script({ method: request.method!, url }) : (script[lines.length] ?? 'none')
    signers.push(/Credential=([^/]+)/.exec(request.headers.authorization ?? '')?.[1])
    lines.push(`${request.method} ${request.url?.replace(/\?x-id=\w+$|&x-id=\w+/, '')}`)
    if (trouble === 'silence') return
    if (trouble === 'connection lost') return void request.socket.destroy()
    if (typeof trouble === 'object' && 'status' in trouble)
      return send(request, response, xml(trouble.status, errorBody(trouble.code ?? '')))
    if (typeof trouble === 'object' && 'answer' in trouble) return send(request, response, trouble.answer)
    const answer = perform(request, url, body)
    if (trouble === 'done, connection lost') return void request.socket.destroy()
    if (trouble === 'done, then 500') return send(request, response, xml(500, errorBody('InternalError')))
    send(request, response, typeof trouble === 'object' ? trouble.change(answer) : answer)
  }

  function perform(request: IncomingMessage, url: URL, body: Buffer): Answer {
    const key = url.pathname
    const token = keepsMetadata ? (request.headers['x-amz-meta-moonlink-put'] as string | undefined) : undefined
    const isTaken = request.headers['if-none-match'] === '*' && objects.has(key)
    const uploadId = url.searchParams.get('uploadId')
    if (request.method === 'POST' && url.searchParams.has('uploads')) {
      const id = `u${++uploadCount}`
      uploads.set(id, { token, parts: new Map() })
      return xml(200, `<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`)
    }
    if (uploadId !== null) {
      const upload = uploads.get(uploadId)
      if (!upload) return xml(404, errorBody('NoSuchUpload'))
      if (request.method === 'PUT') {
        upload.parts.set(Number(url.searchParams.get('partNumber')), body)
        return { status: 200, headers: { etag: '"e"' }, body: Buffer.alloc(0) }
      }
      if (request.method === 'POST' && isTaken) return xml(412, errorBody('PreconditionFailed'))
      uploads.delete(uploadId)
      if (request.method === 'DELETE') return xml(204, '')
      const parts = [...upload.parts].sort(([a], [b]) => a - b).map(([, part]) => part)
      objects.set(key, { body: Buffer.concat(parts), token: upload.token })
      return xml(200, '<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>')
    }
    if (request.method === 'PUT') {
      if (isTaken) return xml(412, errorBody('PreconditionFailed'))
      objects.set(key, { body, token })
      return { status: 200, headers: { etag: '"e"' }, body: Buffer.alloc(0) }
    }
    if (request.method === 'DELETE') {
      objects.delete(key)
      return xml(204, '')
    }
    if (url.searchParams.has('list-type')) return list(key, url.searchParams)
    const found = objects.get(key)
    if (!found) return xml(404, errorBody('NoSuchKey'))
    return ranged(found.body, request.headers.range, found.token === undefined ? {} : { 'x-amz-meta-moonlink-put': found.token })
  }

  function list(bucketPath: string, params: URLSearchParams): Answer {
    const root = `${bucketPath.replace(/\/$/, '')}/`
    const prefix = params.get('prefix') ?? ''
    const after = params.get('continuation-token') ?? ''
    const keys = [...objects.keys()].filter((path) => path.startsWith(root)).map((path) => decodeURIComponent(path.slice(root.length)))
    const left = keys.filter((key) => key.startsWith(prefix) && key > after).sort()
    const page = left.slice(0, pageKeys)
    const contents = page.map(
      (key) =>
        `<Contents><Key>${key}</Key><Size>${objects.get(root + key)!.body.length}</Size><LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>`,
    )
    const more = left.length > page.length
    const token = more ? `<NextContinuationToken>${page.at(-1)}</NextContinuationToken>` : ''
    return xml(200, `<ListBucketResult><IsTruncated>${more}</IsTruncated>${token}${contents.join('')}</ListBucketResult>`)
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const store = new S3ObjectStore({
    endpoint,
    credentials: { accessKeyId: 'key', secretAccessKey: 'do-not-print-me' },
    clock: hastyClock,
    ...options,
  })
  return {
    store,
    endpoint,
    /** Whose keys signed the requests. */
    signers,
    objects,
    uploads,
    lines,
    bytes: () => objects.get('/lake/t/v1')?.body,
    putByOther: (body: Uint8Array, token?: string) => objects.set('/lake/t/v1', { body: Buffer.from(body), token }),
    close: async () => {
      await store.close()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function ranged(body: Buffer, range: string | undefined, headers: Record<string, string>): Answer {
  if (range === undefined) return { status: 200, headers, body }
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(range)!
  const from = first === '' ? Math.max(0, body.length - Number(last)) : Number(first)
  const end = first === '' ? body.length : Math.min(body.length, Number(last) + 1)
  if (from >= body.length) return xml(416, errorBody('InvalidRange'))
  return {
    status: 206,
    headers: { ...headers, 'content-range': `bytes ${from}-${end - 1}/${body.length}` },
    body: body.subarray(from, end),
  }
}

function xml(status: number, text: string): Answer {
  return { status, headers: { 'content-type': 'application/xml' }, body: Buffer.from(text) }
}

/** Says the length of a body that a HEAD leaves out, unless the headers say `none`. */
function send({ method }: IncomingMessage, response: ServerResponse, { body, end, headers, status }: Answer): void {
  const length = headers['content-length'] ?? String(body.length)
  const isSaid = status !== 204 && length !== 'none'
  response.writeHead(status, { ...headers, ...(isSaid ? { 'content-length': length } : {}) })
  if (method === 'HEAD') return void response.end()
  if (end === undefined) return void response.end(body)
  response.write(body)
  if (end === 'broken') setImmediate(() => response.destroy())
}

export function errorBody(code: string): string {
  return `<?xml version="1.0"?><Error><Code>${code}</Code><Message>as the server puts it</Message></Error>`
}
