import { MoonlinkError } from '@moonlink/core'

/**
 * URIs here are what Iceberg's readers take them for: a scheme and then the name itself, byte for byte. Spark, PyIceberg and
 * DuckDB decode no percent escapes in a file's location, so `file:///a b/50%` is the path `/a b/50%`, and `%20` in a URI is
 * three characters of a name. `node:url`'s `pathToFileURL` and `fileURLToPath` are therefore not to be used on them.
 */

const SCHEME = /^([A-Za-z][A-Za-z0-9+.-]*):/

/** The URI's scheme in lower case. Throws `invalid`/`URI_MALFORMED` where there is none. */
export function schemeOf(uri: string): string {
  const match = SCHEME.exec(uri)
  if (!match) throw malformed(uri, 'it has no scheme; write it as file:///dir/name or s3://bucket/name')
  return match[1].toLowerCase()
}

/** The absolute path a `file:` URI names (`file:///p`, `file:/p` or `file://localhost/p`). Throws `invalid`/`URI_MALFORMED`. */
export function fileUriToPath(uri: string): string {
  return splitFileUri(uri).path
}

/** The `file:///…` URI of an absolute path. Throws `invalid`/`URI_MALFORMED` for a relative one. */
export function pathToFileUri(path: string): string {
  if (!path.startsWith('/')) throw malformed(path, 'a path must be absolute')
  return `file://${path}`
}

/** A `file:` URI as what stands before the path, kept as it was written, and the path. */
export function splitFileUri(uri: string): { readonly head: string; readonly path: string } {
  const match = /^file:(?:\/\/(?:localhost)?(?=\/))?(?=\/(?!\/))/i.exec(uri)
  if (!match) throw malformed(uri, 'write it as file:///dir/name')
  const path = uri.slice(match[0].length)
  if (path.includes('\0')) throw malformed(uri.replaceAll('\0', '\\0'), 'a name cannot hold a NUL')
  if (/\/\.\.?(\/|$)/.test(path)) throw malformed(uri, '"." and ".." are no names; write the path without them')
  return { head: match[0], path }
}

export function malformed(uri: string, why: string): MoonlinkError {
  return new MoonlinkError('invalid', 'URI_MALFORMED', `cannot use "${uri}" as an object's URI: ${why}.`, { context: { uri } })
}
