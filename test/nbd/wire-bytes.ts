/** Messages of the protocol as bytes, for tests that send what no client library would. */

export interface WireRequest {
  readonly type: number
  readonly handle: number
  readonly length: number
  readonly offset?: number
  readonly flags?: number
  readonly magic?: number
}

/** The client's flags: fixed newstyle, no zeroes. */
export function greet(flags = 3): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(flags >>> 0)
  return bytes
}

export function option(type: number, data: Uint8Array = new Uint8Array(0), length = data.length): Buffer {
  const header = Buffer.alloc(16)
  header.write('IHAVEOPT')
  header.writeUInt32BE(type >>> 0, 8)
  header.writeUInt32BE(length >>> 0, 12)
  return Buffer.concat([header, data])
}

export function optionGo(name: string, infos: readonly number[] = [3]): Buffer {
  return option(7, Buffer.concat([text(name), Buffer.of(0, infos.length), ...infos.map((info) => Buffer.of(0, info))]))
}

export function optionMeta(type: 9 | 10, name: string, queries: readonly string[]): Buffer {
  return option(type, Buffer.concat([text(name), u32(queries.length), ...queries.map(text)]))
}

export function request({ type, handle, length, offset = 0, flags = 0, magic = 0x25609513 }: WireRequest): Buffer {
  const bytes = Buffer.alloc(28)
  bytes.writeUInt32BE(magic, 0)
  bytes.writeUInt16BE(flags, 4)
  bytes.writeUInt16BE(type, 6)
  bytes.writeUInt32BE(handle, 12)
  bytes.writeBigUInt64BE(BigInt(offset), 16)
  bytes.writeUInt32BE(length, 24)
  return bytes
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value >>> 0)
  return bytes
}

export function text(value: string): Buffer {
  return Buffer.concat([u32(Buffer.byteLength(value)), Buffer.from(value)])
}
