/** What an extent's bytes are: `data` is stored content; `zero` is zeroes, stored as nothing but always restored. */
export type ExtentKind = 'data' | 'zero'

/** A piece of a store. Offset and length in bytes. */
export interface Extent {
  readonly offset: number
  readonly length: number
  readonly kind: ExtentKind
}

/** A piece of a store without a statement on what is in it. Offset and length in bytes. */
export interface Range {
  readonly offset: number
  readonly length: number
}
