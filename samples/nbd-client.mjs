/*
 * A small NBD client, as a guest of the quickstart: it stands for the virtual machine that uses the disk.
 *
 *   node nbd-client.mjs write  <uri> <blocks> <size>  fills so many blocks, spread over the disk, with new bytes
 *   node nbd-client.mjs trim   <uri> <offset> <size>  makes a range zero, as a guest does that deletes files
 *   node nbd-client.mjs sha256 <uri>                  prints the checksum of the disk as it is now
 *
 * A URI is what `refpoint disk serve` prints: nbd+unix:///<export>?socket=<path>. Sizes are bytes.
 */
import { createHash, randomBytes } from 'node:crypto'
import { connectNbd } from '../dist/index.js'

const [, , command = '', uri = '', ...numbers] = process.argv
const { pathname, searchParams } = new URL(uri)
const disk = await connectNbd(
  { path: searchParams.get('socket') ?? '' },
  { exportName: decodeURIComponent(pathname.slice(1)) },
)
const [first = 0, second = 0] = numbers.map(Number)
switch (command) {
  case 'write':
    await writeBlocks(first, second)
    break
  case 'trim':
    await disk.zero(first, second, { punch: true })
    await disk.flush()
    break
  case 'sha256':
    console.log(await checksum())
    break
  default:
    throw new Error(`'${command}' is none of write, trim and sha256`)
}
await disk.disconnect()

async function writeBlocks(count, bytes) {
  const step = Math.floor(disk.sizeBytes / count / bytes) * bytes
  for (let block = 0; block < count; block += 1) await disk.write(randomBytes(bytes), block * step)
  await disk.flush()
}

/** Reads the next piece while the one before is hashed. */
async function checksum() {
  const hash = createHash('sha256')
  const pieceBytes = 4 * 1024 * 1024
  let next = read(0)
  for (let offset = 0; offset < disk.sizeBytes; offset += pieceBytes) {
    const piece = await next
    next = read(offset + pieceBytes)
    hash.update(piece)
  }
  return hash.digest('hex')

  async function read(offset) {
    const piece = Buffer.alloc(Math.max(0, Math.min(pieceBytes, disk.sizeBytes - offset)))
    if (piece.length > 0) await disk.read(piece, offset)
    return piece
  }
}
