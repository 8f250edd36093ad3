import type { JsonValue } from '@moonlink/core'

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'DELETE'
  /** Below the base URI, percent-encoded, query included: `/v1/config?warehouse=w`. */
  readonly path: string
  readonly body?: JsonValue
  /** True where sending it twice does no more than sending it once; only then is it repeated. */
  readonly idempotent: boolean
}

export interface HttpAnswer {
  readonly status: number
  /** Null where there is no body. */
  readonly body: JsonValue
}

/** Headers that are sent with every request besides the content type. */
export interface Credentials {
  readonly token: string | null
  readonly headers: Readonly<Record<string, string>>
}
