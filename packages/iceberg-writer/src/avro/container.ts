import { promisify } from 'node:util'
import { deflateRaw, deflateRawSync, inflateRaw, inflateRawSync, zstdDecompress } from 'node:zlib'
import { MoonlinkError, parseJsonLossless, stringifyJsonLossless, type JsonObject } from '@moonlink/core'
import { AvroReader, compileDecoder, malformed, type DatumRecord } from './avro-reader.ts'
import { AvroWriter } from './avro-writer.ts'
import { recordOf } from './records.ts'

const deflate = promisify(deflateRaw)
const inflate = promisify(inflateRaw)
const unzstd = promisify(zstdDecompress)

const MAGIC = new Uint8Array([0x4f, 0x62, 0x6a, 0x01])
const SYNC_BYTES = 16
/** Uncompressed bytes after which a block ends. */
const BLOCK_BYTES = 1 << 20
/** A block that unpacks to more is refused: it would take the memory of everything else. */
const MAX_BLOCK_BYTES = 256 << 20
/** Smaller blocks are done with sooner than another thread would begin. */
const SMALL_BYTES = 16 << 10
const SMALL_OUTPUT_BYTES = 256 << 10

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/**
 * Writes an Avro object container file with the `deflate` codec, one datum at a time.
 *
 * The header is written here and not by a library because Iceberg's `field-id` and `element-id` attributes must survive in it.
 */
export class ContainerWriter {
  private readonly sync: Uint8Array
  private readonly chunks: Uint8Array[] = []
  private readonly block = new AvroWriter(64 << 10)
  private blockCount = 0

  /** `sync` is 16 random bytes. `metadata` are the header's own entries. */
  constructor(schema: JsonObject, metadata: Readonly<Record<string, string>>, sync: Uint8Array) {
    this.sync = sync
    const header = new AvroWriter()
    header.raw(MAGIC)
    const entries = Object.entries({ 'avro.schema': stringifyJsonLossless(schema), 'avro.codec': 'deflate', ...metadata })
    header.long(entries.length)
    for (const [key, value] of entries) {
      header.string(key)
      header.bytesValue(encoder.encode(value))
    }
    header.long(0)
    header.raw(sync)
    this.chunks.push(header.take())
  }

  /** Appends one datum, encoded by `write`. */
  async append(write: (writer: AvroWriter) => void): Promise<void> {
    write(this.block)
    this.blockCount++
    if (this.block.length >= BLOCK_BYTES) await this.endBlock()
  }

  /** The whole file. */
  async finish(): Promise<Uint8Array> {
    await this.endBlock()
    return Buffer.concat(this.chunks)
  }

  private async endBlock(): Promise<void> {
    if (this.blockCount === 0) return
    const block = this.block.take()
    const body = block.length < SMALL_BYTES ? deflateRawSync(block) : await deflate(block)
    const head = new AvroWriter(32)
    head.long(this.blockCount)
    head.long(body.length)
    this.chunks.push(head.take(), body, this.sync)
    this.block.clear()
    this.blockCount = 0
  }
}

export interface Container {
  /** The header's entries as text. */
  readonly metadata: Readonly<Record<string, string>>
  readonly records: readonly DatumRecord[]
}

/**
 * Reads an Avro object container file of any writer (codecs `null`, `deflate`, `zstandard`). Fields are keyed as `compileDecoder`
 * says. Throws `corrupt`/`AVRO_MALFORMED`, or `invalid`/`AVRO_CODEC` for another codec.
 */
export async function readContainer(bytes: Uint8Array, names: ReadonlyMap<number, string>): Promise<Container> {
  const reader = new AvroReader(bytes)
  if (!reader.raw(4).every((byte, index) => byte === MAGIC[index])) throw malformed('not an object container file')
  const header: [string, string][] = []
  reader.blocks(() => header.push([reader.string(), decoder.decode(reader.bytesValue())]))
  const metadata: Readonly<Record<string, string>> = Object.fromEntries(header)
  const sync = reader.raw(SYNC_BYTES)
  const decode = compileDecoder(parseJsonLossless(metadata['avro.schema'] ?? 'null', 'the schema of an Avro file'), names)
  const records: DatumRecord[] = []
  while (!reader.atEnd) {
    const count = reader.size()
    const block = new AvroReader(await decompress(reader.bytesValue(), metadata['avro.codec'] ?? 'null'))
    for (let index = 0; index < count; index++) block.advancing(() => records.push(recordOf(decode(block))))
    if (!block.atEnd) throw malformed('a block holds more than its count says')
    if (!reader.raw(SYNC_BYTES).every((byte, index) => byte === sync[index])) throw malformed('sync marker does not match')
  }
  return { metadata, records }
}

async function inflated(body: Uint8Array): Promise<Uint8Array> {
  if (body.length < SMALL_BYTES) {
    try {
      return inflateRawSync(body, { maxOutputLength: SMALL_OUTPUT_BYTES })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ERR_BUFFER_TOO_LARGE') throw error
    }
  }
  return inflate(body, { maxOutputLength: MAX_BLOCK_BYTES })
}

async function decompress(body: Uint8Array, codec: string): Promise<Uint8Array> {
  try {
    if (codec === 'deflate') return await inflated(body)
    if (codec === 'zstandard') return await unzstd(body, { maxOutputLength: MAX_BLOCK_BYTES })
  } catch (cause) {
    throw new MoonlinkError(
      'corrupt',
      'AVRO_MALFORMED',
      `malformed Avro: a ${codec} block does not decompress to at most ${MAX_BLOCK_BYTES} bytes`,
      { cause },
    )
  }
  if (codec === 'null') return body
  throw new MoonlinkError('invalid', 'AVRO_CODEC', `Avro codec "${codec}" is not supported; rewrite the manifests with deflate.`, {
    context: { codec },
  })
}
