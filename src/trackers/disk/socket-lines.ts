import type { Socket } from 'node:net'
import { StringDecoder } from 'node:string_decoder'

/** Gives every line that a socket sends to `take`; whoever sends a line longer than `limit` characters is cut off. */
export function takeLines(socket: Socket, limit: number, take: (line: string) => void): void {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  socket.on('data', (data: Buffer) => {
    const lines = (rest + decoder.write(data)).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) if (!socket.destroyed) take(line)
    if (rest.length > limit) socket.destroy()
  })
}
