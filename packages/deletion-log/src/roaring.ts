import { createRequire } from 'node:module'
import { MoonlinkError } from '@moonlink/core'

/** What the two Roaring libraries have in common and `PositionSet` needs. Values are unsigned 32-bit integers. */
export interface Roaring {
  readonly size: number
  tryAdd(value: number): boolean
  has(value: number): boolean
  addMany(values: Uint32Array): unknown
  removeMany(values: Uint32Array): unknown
  orInPlace(other: Roaring): unknown
  clone(): Roaring
  runOptimize(): boolean
  toUint32Array(): Uint32Array
  serialize(format: 'portable'): Uint8Array
  getSerializationSizeInBytes(format: 'portable'): number
  dispose(): unknown
}

export interface RoaringLibrary {
  readonly name: 'roaring' | 'roaring-wasm'
  create(): Roaring
  deserialize(bytes: Uint8Array): Roaring
}

interface RoaringModule {
  readonly RoaringBitmap32: { new (): Roaring; deserialize(bytes: Uint8Array, format: 'portable'): Roaring }
}

const require = createRequire(import.meta.url)
let chosen: RoaringLibrary | null = null

/** Loads one library by name; null where it is not installed or not built for this Node. */
export function loadLibrary(name: RoaringLibrary['name']): RoaringLibrary | null {
  let RoaringBitmap32: RoaringModule['RoaringBitmap32']
  try {
    ;({ RoaringBitmap32 } = (name === 'roaring' ? require('roaring') : require('roaring-wasm')) as RoaringModule)
  } catch {
    return null
  }
  return {
    name,
    create: () => new RoaringBitmap32(),
    deserialize: (bytes) => RoaringBitmap32.deserialize(bytes, 'portable'),
  }
}

/** The native library where it is built, else the WebAssembly one. Loaded on first use, about 10 ms. */
export function roaringLibrary(): RoaringLibrary {
  chosen ??= loadLibrary('roaring') ?? loadLibrary('roaring-wasm')
  if (chosen === null) {
    throw new MoonlinkError(
      'invalid',
      'ROARING_MISSING',
      'neither "roaring" nor "roaring-wasm" can be loaded; install the dependencies again.',
    )
  }
  return chosen
}

/** Loads the library ahead of its first use. Resolves with the name of the one in use. */
export async function loadRoaring(): Promise<RoaringLibrary['name']> {
  return Promise.resolve(roaringLibrary().name)
}
