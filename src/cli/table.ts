export interface Column {
  readonly title: string
  readonly align?: 'left' | 'right'
}

/** Between columns. */
const gap = '  '

/** Rows under titles, without borders, lines or colours: to read, and to cut with awk. No lines for no rows. */
export function formatTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string[] {
  if (rows.length === 0) return []
  const all = [columns.map(({ title }) => title), ...rows.map((row) => row.map(oneLine))]
  const widths = columns.map((_, i) => all.reduce((widest, row) => Math.max(widest, widthOf(row[i] ?? '')), 0))
  return all.map((row) => {
    const cells = columns.map(({ align }, i) => {
      const cell = row[i] ?? ''
      const padding = ' '.repeat((widths[i] ?? 0) - widthOf(cell))
      return align === 'right' ? padding + cell : cell + padding
    })
    return cells.join(gap).trimEnd()
  })
}

/** A row is a line, whatever stands in it. */
function oneLine(cell: string): string {
  return /[\n\r\t]/.test(cell) ? cell.replaceAll(/[\n\r\t]+/g, ' ') : cell
}

/** In characters as they are counted by people: those beyond the first plane are one, though two code units. */
function widthOf(cell: string): number {
  // Nearly all cells are plain, and then the length is the width.
  return /[\ud800-\udbff]/.test(cell) ? Array.from(cell).length : cell.length
}
