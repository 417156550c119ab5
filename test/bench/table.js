/**
 * Rows of a table: what was measured; seconds, peak and stored bytes; and, where there is a goal, a ratio (or another
 * number, told as `value`) and its `limit` ('≤ 0.45', '≥ 0.5').
 */
export function formatTable(rows) {
  const cells = rows.map((row) => [
    row.what,
    row.seconds === undefined ? '' : `${row.seconds.toFixed(2)} s`,
    mebibytes(row.storedBytes),
    mebibytes(row.peakBytes),
    row.value ?? '',
    row.goal ?? '',
    row.goal === undefined ? '' : row.met === true ? 'reached' : 'MISSED',
  ])
  const table = [['', 'seconds', 'stored', 'peak memory', 'figure', 'goal', ''], ...cells]
  const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)))
  return table.map((row) => row.map((cell, column) => pad(cell, widths[column], column)).join('  ').trimEnd())
}

/** A row for a goal: `value` compared with `limit`. */
export function goal(what, value, relation, limit, format = (number) => number.toFixed(2)) {
  const met = relation === '≤' ? value <= limit : value >= limit
  return { what, value: format(value), goal: `${relation} ${format(limit)}`, met }
}

export function seconds(number) {
  return `${number.toFixed(2)} s`
}

export function megabytes(bytes) {
  return `${Math.round(bytes / 1e6)} MB`
}

/** The peak of memory against a limit in megabytes; no row where it could not be measured. */
export function memoryGoal(what, { peakBytes }, limit) {
  return peakBytes === null || peakBytes === undefined ? [] : [goal(what, peakBytes, '≤', limit * 1e6, megabytes)]
}

function mebibytes(bytes) {
  return typeof bytes === 'number' ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : ''
}

function pad(text, width, column) {
  return column === 0 || column > 4 ? text.padEnd(width) : text.padStart(width)
}
