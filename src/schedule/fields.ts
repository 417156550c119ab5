/** The five fields of a crontab line, each as the values that it stands for, ascending. */
export interface Fields {
  readonly minutes: readonly number[]
  readonly hours: readonly number[]
  readonly days: readonly number[]
  readonly months: readonly number[]
  /** 0 is Sunday. */
  readonly weekdays: readonly number[]
  /** Whether the day is any day: cron takes a line whose day *or* weekday fits where both are said. */
  readonly anyDay: boolean
  readonly anyWeekday: boolean
}

const monthNames = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec']
const weekdayNames = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']

/** What an expression says. @throws RangeError in plain words when it says nothing that cron understands. */
export function parseFields(expression: string): Fields {
  const parts = expression.trim().split(/\s+/)
  const [minute = '', hour = '', day = '', month = '', weekday = ''] = parts
  if (parts.length !== 5) throw new RangeError(`it has ${parts.length} fields, and not minute, hour, day, month and weekday`)
  const stepped = [day, weekday].filter((field) => field.startsWith('*/'))
  if (stepped.length > 0 && day !== '*' && weekday !== '*') {
    throw new RangeError(`"${stepped[0]}" in a day together with a weekday means one thing to one cron and another to the next`)
  }
  const weekdays = values(weekday, 'weekday', 0, 7, (name) => weekdayNames.indexOf(name))
  return {
    minutes: values(minute, 'minute', 0, 59),
    hours: values(hour, 'hour', 0, 23),
    days: values(day, 'day', 1, 31),
    months: values(month, 'month', 1, 12, (name) => monthNames.indexOf(name) + 1),
    weekdays: [...new Set(weekdays.map((value) => value % 7))].sort((a, b) => a - b),
    anyDay: day === '*',
    anyWeekday: weekday === '*',
  }
}

function values(
  field: string,
  what: string,
  lowest: number,
  highest: number,
  named: (name: string) => number = () => -1,
): readonly number[] {
  const found = new Set<number>()
  const valueOf = (text: string): number => {
    const value = /^\d{1,2}$/.test(text) ? Number(text) : named(text.toLowerCase())
    if (value >= lowest && value <= highest) return value
    throw new RangeError(`"${text}" is no ${what} (${lowest} to ${highest})`)
  }
  for (const item of field.split(',')) {
    const match = /^(?:\*|(\w+)(?:-(\w+))?)(?:\/(\d{1,2}))?$/.exec(item)
    if (match === null) throw new RangeError(`"${item}" is no ${what}`)
    const [, first, last, step] = match
    const from = first === undefined ? lowest : valueOf(first)
    const single = first !== undefined && last === undefined && step === undefined
    const to = single ? from : last === undefined ? highest : valueOf(last)
    if (to < from) throw new RangeError(`"${item}" ends before it begins`)
    if (step === '0' || step === '00') throw new RangeError(`"${item}" goes in steps of nothing`)
    for (let value = from; value <= to; value += Number(step ?? 1)) found.add(value)
  }
  return [...found].sort((a, b) => a - b)
}
