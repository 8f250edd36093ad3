export interface ManifestLimits {
  /** From this many small manifests of one content on, they are merged. */
  readonly mergeFrom: number
  /** Manifests below this encoded size are small. */
  readonly smallBytes: number
  /** Merged manifests end at about this many bytes before compression. */
  readonly targetBytes: number
}

export const DEFAULT_MANIFEST_LIMITS: ManifestLimits = { mergeFrom: 32, smallBytes: 2 << 20, targetBytes: 16 << 20 }
