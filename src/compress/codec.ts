/** Compresses and decompresses single zstd frames (RFC 8878) whose header states the content size. */
export interface Codec {
  readonly name: 'zlib' | 'zstd-codec'
  /** One frame of at most 1 MiB of content. The result is a view the caller owns. Level 1 to 19. */
  compress(content: Uint8Array, level: number): Uint8Array
  /**
   * The content of exactly one frame, which must be `contentBytes` long: more is never allocated, whatever the frame
   * says (a decompression bomb throws like any damage).
   * @throws RefpointError `damaged`
   */
  decompress(frame: Uint8Array, contentBytes: number): Uint8Array
}
