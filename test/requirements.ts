import { type Layer, layers, missingLayers } from './layers.js'

/** Runs once before all tests: finds the real layers, and refuses to skip one that REFPOINT_REQUIRE names. */
export default function setup(): () => void {
  const missing = missingLayers()
  const required = (process.env['REFPOINT_REQUIRE'] ?? '').split(/[\s,]+/).filter(Boolean)
  const unknown = required.filter((name) => !(name in layers))
  if (unknown.length > 0) throw new Error(`REFPOINT_REQUIRE names unknown layers: ${unknown.join(', ')}`)
  const lost = missing.filter((layer: Layer) => required.includes(layer))
  if (lost.length > 0) throw new Error(`REFPOINT_REQUIRE names layers that are not installed: ${lost.join(', ')}`)
  process.env['REFPOINT_TEST_MISSING'] = missing.join(',')
  return () => {
    if (missing.length > 0) console.log(`Skipped the tests that need: ${missing.join(', ')} (not on this machine)`)
  }
}
