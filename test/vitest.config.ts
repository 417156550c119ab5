import { resolve, sep } from 'node:path'
import { defineConfig } from 'vitest/config'

const root = resolve(import.meta.dirname, '..')

/**
 * Tests import `../src/…` so that types and editors follow the source, and run `dist/…`, the code that ships:
 * worker threads and child processes need compiled JavaScript anyway, and one copy of every module must serve all.
 */
export default defineConfig({
  plugins: [
    {
      name: 'run-what-ships',
      enforce: 'pre',
      resolveId(source, importer) {
        if (importer === undefined || !source.startsWith('.')) return null
        const target = resolve(importer, '..', source)
        const src = resolve(root, 'src') + sep
        if (!target.startsWith(src)) return null
        return { id: resolve(root, 'dist', target.slice(src.length)), external: true }
      },
    },
  ],
  test: {
    root,
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/requirements.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
  },
})
