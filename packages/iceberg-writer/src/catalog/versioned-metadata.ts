import { isMoonlinkError, stringifyJsonLossless, type JsonObject, type Logger, type ObjectStore } from '@moonlink/core'

const HINT = 'version-hint.text'
const encoder = new TextEncoder()
const decoder = new TextDecoder()

export interface MetadataVersion {
  readonly version: number
  readonly uri: string
  readonly bytes: Uint8Array
}

/** `vN.metadata.json` → N; null for any other name, and for numbers that can't be counted on from. */
export function versionOf(fileName: string): number | null {
  const match = /^v(\d+)\.metadata\.json$/.exec(fileName)
  return match ? countable(match[1]) : null
}

function countable(digits: string): number | null {
  return Number(digits) < Number.MAX_SAFE_INTEGER ? Number(digits) : null
}

/** The numbered metadata files of one table and the hint at the newest. */
export class VersionedMetadata {
  private readonly store: ObjectStore
  /** URI of the metadata directory, without a slash at the end. */
  private readonly directory: string
  private readonly logger: Logger

  constructor(store: ObjectStore, directory: string, logger: Logger) {
    this.store = store
    this.directory = directory
    this.logger = logger
  }

  /** The newest version, or null where there is none. `known` is one that was the newest before: it saves asking for the hint. */
  async current(known: number | null = null): Promise<MetadataVersion | null> {
    const found = known === null ? null : await this.newestFrom(known)
    if (found !== null) return found
    const hinted = await this.readHint()
    // A hint can name a version that was cleaned up since; then the directory tells.
    return (hinted === null ? null : await this.newestFrom(hinted)) ?? (await this.newestListed())
  }

  /** The newest version that follows on one; null where that one is not there. */
  private async newestFrom(version: number): Promise<MetadataVersion | null> {
    let [found, next] = await Promise.all([this.read(version), this.read(version + 1)])
    while (found !== null && next !== null) {
      found = next
      next = await this.read(found.version + 1)
    }
    return found
  }

  /** Creates a version; its URI, or null where it exists already. */
  async write(version: number, metadata: JsonObject): Promise<string | null> {
    const uri = this.uriOf(version)
    const outcome = await this.store.putIfAbsent(uri, encoder.encode(stringifyJsonLossless(metadata)))
    return outcome === 'exists' ? null : uri
  }

  /** Points the hint at a version, as well as that goes. */
  async hint(version: number): Promise<void> {
    const uri = `${this.directory}/${HINT}`
    try {
      // Hadoop keeps a checksum of the hint beside it on local disk and would refuse a hint that no longer matches.
      if (uri.startsWith('file:')) await this.store.delete(`${this.directory}/.${HINT}.crc`)
      await this.store.put(uri, encoder.encode(String(version)))
    } catch (error) {
      this.logger.warn('version hint was not written; readers that trust it see an older version', { uri, version, error: String(error) })
    }
  }

  /** Takes the table out of the catalog but keeps the newest metadata under another name, from which it can be registered again. */
  async retire(id: string): Promise<void> {
    const current = await this.current()
    if (current === null) return
    await this.store.put(`${this.directory}/dropped-${id}.metadata.json`, current.bytes)
    await this.remove(async () => undefined)
  }

  /** Removes every version. `beforeEach` is called before each removal. */
  async remove(beforeEach: () => Promise<void>): Promise<void> {
    await beforeEach()
    await this.store.delete(`${this.directory}/${HINT}`)
    // The newest goes last, so that nobody meets an older version as the current one.
    for (const version of (await this.listVersions()).sort((a, b) => a - b)) {
      await beforeEach()
      await this.store.delete(this.uriOf(version))
    }
  }

  /** Versions older than the one at `uri`. */
  async before(uri: string | null): Promise<readonly string[]> {
    const oldest = uri === null ? null : versionOf(uri.slice(this.directory.length + 1))
    if (oldest === null) return []
    return (await this.listVersions()).filter((version) => version < oldest).map((version) => this.uriOf(version))
  }

  private uriOf(version: number): string {
    return `${this.directory}/v${version}.metadata.json`
  }

  private async read(version: number): Promise<MetadataVersion | null> {
    const uri = this.uriOf(version)
    const bytes = await this.readIfThere(uri)
    return bytes === null ? null : { version, uri, bytes }
  }

  private async newestListed(): Promise<MetadataVersion | null> {
    const versions = await this.listVersions()
    return versions.length === 0 ? null : this.newestFrom(Math.max(...versions))
  }

  private async listVersions(): Promise<number[]> {
    const prefix = `${this.directory}/`
    const versions: number[] = []
    for await (const { uri } of this.store.list(prefix)) {
      const version = versionOf(uri.slice(prefix.length))
      if (version !== null) versions.push(version)
    }
    return versions
  }

  private async readHint(): Promise<number | null> {
    const bytes = await this.readIfThere(`${this.directory}/${HINT}`)
    const text = bytes === null ? '' : decoder.decode(bytes).trim()
    return /^\d+$/.test(text) ? countable(text) : null
  }

  private async readIfThere(uri: string): Promise<Uint8Array | null> {
    try {
      return await this.store.get(uri)
    } catch (error) {
      if (isMoonlinkError(error) && error.code === 'OBJECT_NOT_FOUND') return null
      throw error
    }
  }
}
