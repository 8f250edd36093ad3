import { isJsonObject, MoonlinkError, parseJsonLossless, stringifyJsonLossless, type JsonObject } from '@moonlink/core'
import { decodeDeletionVector, encodeDeletionVector } from './deletion-vector.ts'
import { readRoaringFrame } from './roaring-portable.ts'

/** Puffin files of deletion vectors (Puffin spec; the deletion-vector-v1 blob). The footer is never compressed: readers differ there. */

const MAGIC = new Uint8Array([0x50, 0x46, 0x41, 0x31])
const FOOTER_TAIL_BYTES = 12
const BLOB_TYPE = 'deletion-vector-v1'
/** The reserved id of `_pos`, which is what the positions are of. */
const POSITION_FIELD_ID = 2_147_483_645

export interface VectorToWrite {
  /** The data file's URI exactly as its manifest entry has it. */
  readonly dataFile: string
  /** Portable 32-bit Roaring. */
  readonly bitmap: Uint8Array
  readonly cardinality: number
}

export interface WrittenVector {
  readonly dataFile: string
  readonly cardinality: number
  /** Where the blob lies in the file. */
  readonly offset: number
  readonly length: number
}

export interface PuffinFile {
  readonly bytes: Uint8Array
  /** In the order given. */
  readonly vectors: readonly WrittenVector[]
}

/** Encodes one Puffin file with a blob per vector. */
export function encodePuffin(vectors: readonly VectorToWrite[], createdBy: string): PuffinFile {
  const chunks: Uint8Array[] = [MAGIC]
  const written: WrittenVector[] = []
  let offset = MAGIC.length
  for (const { dataFile, bitmap, cardinality } of vectors) {
    const blob = encodeDeletionVector(bitmap, cardinality)
    chunks.push(blob)
    written.push({ dataFile, cardinality, offset, length: blob.length })
    offset += blob.length
  }
  const payload = new TextEncoder().encode(stringifyJsonLossless(footer(written, createdBy)))
  const tail = new Uint8Array(FOOTER_TAIL_BYTES)
  new DataView(tail.buffer).setInt32(0, payload.length, true)
  tail.set(MAGIC, 8)
  chunks.push(MAGIC, payload, tail)
  return { bytes: Buffer.concat(chunks), vectors: written }
}

function footer(vectors: readonly WrittenVector[], createdBy: string): JsonObject {
  return {
    blobs: vectors.map((vector) => ({
      type: BLOB_TYPE,
      fields: [POSITION_FIELD_ID],
      'snapshot-id': -1,
      'sequence-number': -1,
      offset: vector.offset,
      length: vector.length,
      properties: { 'referenced-data-file': vector.dataFile, cardinality: String(vector.cardinality) },
    })),
    properties: { 'created-by': createdBy },
  }
}

/** Decodes a whole Puffin file and verifies every deletion vector in it. Throws `corrupt`/`PUFFIN_MALFORMED` and the vector's errors. */
export function decodePuffin(bytes: Uint8Array): readonly VectorToWrite[] {
  const payload = footerPayload(bytes)
  const footerJson = parseJsonLossless(new TextDecoder().decode(payload), 'a Puffin footer')
  const blobs = isJsonObject(footerJson) ? footerJson['blobs'] : null
  if (!Array.isArray(blobs) || !blobs.every(isJsonObject)) throw malformed('the footer lists no blobs')
  return blobs.filter((blob) => blob['type'] === BLOB_TYPE).map((blob) => readBlob(bytes, blob))
}

function footerPayload(bytes: Uint8Array): Uint8Array {
  const hasMagic = (at: number) => MAGIC.every((byte, index) => bytes[at + index] === byte)
  if (bytes.length < 2 * MAGIC.length + FOOTER_TAIL_BYTES || !hasMagic(0) || !hasMagic(bytes.length - 4))
    throw malformed('magic is missing')
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const size = view.getInt32(bytes.length - FOOTER_TAIL_BYTES, true)
  const start = bytes.length - FOOTER_TAIL_BYTES - size
  if (size < 0 || start < 2 * MAGIC.length || !hasMagic(start - 4)) throw malformed('the footer size makes no sense')
  if ((bytes[bytes.length - 8] & 1) === 1) throw malformed('the footer is compressed, which is not supported')
  return bytes.subarray(start, start + size)
}

function readBlob(bytes: Uint8Array, blob: JsonObject): VectorToWrite {
  const properties = isJsonObject(blob['properties']) ? blob['properties'] : {}
  const dataFile = properties['referenced-data-file']
  const offset = Number(blob['offset'])
  const length = Number(blob['length'])
  const isInside =
    Number.isSafeInteger(offset) && Number.isSafeInteger(length) && length >= 0 && offset >= MAGIC.length && offset + length <= bytes.length
  if (typeof dataFile !== 'string' || !isInside) throw malformed('a blob is described wrongly')
  const stated = properties['cardinality'] === undefined ? null : Number(properties['cardinality'])
  const bitmap = decodeDeletionVector(bytes.subarray(offset, offset + length), stated, `deletion vector of ${dataFile}`)
  return { dataFile, bitmap, cardinality: stated ?? readRoaringFrame(bitmap).cardinality }
}

function malformed(what: string): MoonlinkError {
  return new MoonlinkError('corrupt', 'PUFFIN_MALFORMED', `malformed Puffin file: ${what}`)
}
