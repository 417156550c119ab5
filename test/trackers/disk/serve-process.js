// A disk server as a process of its own, to be killed: node serve-process.js SOCKET FOLDER…
import { serveDisks } from '../../../dist/trackers/disk/serve-disks.js'

const [, , path, ...folders] = process.argv
const server = await serveDisks({ folders, listen: { path } })
process.on('SIGTERM', () => {
  server.close().then(
    () => process.exit(0),
    (error) => {
      console.error(error)
      process.exit(1)
    },
  )
})
console.log('ready')
