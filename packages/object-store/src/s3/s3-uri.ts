import { malformed } from '../uri.ts'

export interface S3Location {
  /** `s3://`, `s3a://` or `s3n://`, as it was written. */
  readonly head: string
  readonly bucket: string
  /** The key itself, nothing decoded; may be empty in a prefix. */
  readonly key: string
}

/** Splits the URI of an object or of a prefix. Throws `invalid`/`URI_MALFORMED`. */
export function splitS3Uri(uri: string): S3Location {
  const match = /^(s3[an]?:\/\/)([^/]+)(?:\/(.*))?$/is.exec(uri)
  if (!match) throw malformed(uri, 'write it as s3://bucket/name')
  return { head: match[1], bucket: match[2], key: match[3] ?? '' }
}

/** As `splitS3Uri`, where an object is meant. */
export function splitS3Object(uri: string): S3Location {
  const location = splitS3Uri(uri)
  if (location.key === '' || location.key.endsWith('/')) throw malformed(uri, "an object's name is not empty and does not end with /")
  return location
}
