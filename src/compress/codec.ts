/** Compresses and decompresses single zstd frames (RFC 8878) whose header states the content size. */
export interface Codec {
  readonly name: 'zlib' | 'zstd-codec'
  /** One frame of at most 1 MiB of content. The result is the caller's own. Level 1 to 19. */
  compress(content: Uint8Array, level: number): Uint8Array
  /**
   * The content of exactly one frame, which must be `contentBytes` long: more is never allocated, whatever the frame
   * says (a decompression bomb throws like any damage).
   * @throws RefpointError `damaged`
   */
  decompress(frame: Uint8Array, contentBytes: number): Uint8Array
  /**
   * The same without garbage, for whoever does it thousands of times: the result is lent to `use`, which must be done
   * with it, and with this codec, when it returns. Returns what `use` returns.
   */
  lendCompressed<Result>(content: Uint8Array, level: number, use: (frame: Uint8Array) => Result): Result
  lendDecompressed<Result>(frame: Uint8Array, contentBytes: number, use: (content: Uint8Array) => Result): Result
}
