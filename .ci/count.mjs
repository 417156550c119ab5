/*
 * Reads vitest's JSON reports.
 *   count.mjs --again REPORT     the files to try once more, one a line: those that failed, unless a seed made them fail
 *   count.mjs FOLDER NAME…       tells what failed in FOLDER/NAME.json and was not cleared by FOLDER/NAME-again.json,
 *                                what passed only the second time, and last the count
 */
import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'

const [first, ...rest] = process.argv.slice(2)
if (first === '--again') for (const file of again(read(rest[0]))) console.log(file)
else count(first, rest)

function read(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch {
    return undefined
  }
}

function failedFiles(report) {
  return (report?.testResults ?? []).filter(({ status }) => status === 'failed')
}

/** What a file has to say of its failures; one that can't be loaded has no test of its own. */
function failures({ name, message, assertionResults }) {
  const file = relative(process.cwd(), name)
  const failed = assertionResults.filter(({ status }) => status === 'failed')
  if (failed.length === 0) return [{ test: file, text: message }]
  return failed.map(({ fullName, failureMessages }) => ({ test: `${file}: ${fullName}`, text: failureMessages.join('\n') }))
}

/** A test that a seed made fail has found something, even where other dice would not. */
function again(report) {
  return failedFiles(report)
    .filter((file) => !failures(file).some(({ test, text }) => /seed|counterexample/i.test(`${test} ${text}`)))
    .map(({ name }) => relative(process.cwd(), name))
}

function count(folder, names) {
  let passed = 0
  let failed = 0
  for (const name of names) {
    const report = read(join(folder, `${name}.json`))
    if (report === undefined) {
      console.log(`There is no report of ${name}: the run ended before its tests`)
      failed += 1
      continue
    }
    passed += report.numPassedTests
    const second = read(join(folder, `${name}-again.json`))
    const cleared = new Set(second?.testResults.filter(({ status }) => status === 'passed').map(({ name: file }) => file))
    for (const file of failedFiles(report)) {
      const told = failures(file)
      const verdict = cleared.has(file.name) ? 'failed, and passed alone' : 'FAILED'
      for (const { test, text } of told) console.log(`== ${verdict} (${name}): ${test}\n${text.slice(0, 4000)}`)
      if (cleared.has(file.name)) passed += told.length
      else failed += told.length
    }
    if (!report.success && failedFiles(report).length === 0) {
      console.log(`== FAILED (${name}): the run failed outside of any test`)
      failed += 1
    }
  }
  console.log(`${passed} passed, ${failed} failed`)
  process.exitCode = failed === 0 && passed > 0 ? 0 : 1
}
