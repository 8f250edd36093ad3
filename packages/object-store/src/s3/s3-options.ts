import { silentLogger, systemClock, systemRandom, type Clock, type Logger, type Random } from '@moonlink/core'

export interface S3Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string
}

export interface S3ObjectStoreOptions {
  /** Default: as the AWS SDK finds it (`AWS_REGION`, the shared configuration); `us-east-1` where an endpoint is given. */
  readonly region?: string
  /** Of a server that is not AWS: `http://127.0.0.1:9000`. Default: `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, else AWS. */
  readonly endpoint?: string
  /** Bucket in the path instead of the host name. Default: true where an endpoint is given. */
  readonly forcePathStyle?: boolean
  /** Default: the AWS SDK's chain (`AWS_ACCESS_KEY_ID` …, shared configuration, the machine's role). */
  readonly credentials?: S3Credentials
  /** How often a request is sent at most. Default: 5. */
  readonly maxAttempts?: number
  /** How long a connection may stay silent, while it is made, sends or receives. Default: 30,000 ms. */
  readonly timeoutMs?: number
  /** Pause before the first repetition; doubles with each, with jitter, up to 5,000 ms. Default: 100 ms. */
  readonly backoffMs?: number
  /** Larger objects are uploaded in parts. Default: 64 MiB. */
  readonly multipartThresholdBytes?: number
  /** Size of a part; at least 5 MiB. Default: 16 MiB; larger where an object would need more than 10,000 parts. */
  readonly partBytes?: number
  readonly clock?: Clock
  readonly random?: Random
  readonly logger?: Logger
}

export type S3Settings = Required<Omit<S3ObjectStoreOptions, 'region' | 'endpoint' | 'credentials'>> & {
  readonly region: string | null
  readonly endpoint: string | null
  readonly credentials: S3Credentials | null
}

export function resolveS3Options(options: S3ObjectStoreOptions): S3Settings {
  const endpoint = options.endpoint ?? (process.env['AWS_ENDPOINT_URL_S3'] || process.env['AWS_ENDPOINT_URL'] || null)
  const hasEndpoint = endpoint !== null
  return {
    region: options.region ?? (process.env['AWS_REGION'] === undefined && hasEndpoint ? 'us-east-1' : null),
    endpoint,
    credentials: options.credentials ?? null,
    forcePathStyle: options.forcePathStyle ?? hasEndpoint,
    maxAttempts: options.maxAttempts ?? 5,
    timeoutMs: options.timeoutMs ?? 30_000,
    backoffMs: options.backoffMs ?? 100,
    multipartThresholdBytes: options.multipartThresholdBytes ?? 64 * 1024 * 1024,
    partBytes: options.partBytes ?? 16 * 1024 * 1024,
    clock: options.clock ?? systemClock,
    random: options.random ?? systemRandom,
    logger: options.logger ?? silentLogger,
  }
}
