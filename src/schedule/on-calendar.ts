import { parseFields } from './fields.js'

const weekdayNames = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat']

/**
 * The same times in the words of systemd.time(7); more than one where both a day and a weekday are said, for systemd
 * wants both to fit, and cron either.
 */
export function onCalendar(expression: string, zone: string | undefined): readonly string[] {
  const { minutes, hours, days, months, weekdays, anyDay, anyWeekday } = parseFields(expression)
  const two = (value: number): string => String(value).padStart(2, '0')
  const list = (values: readonly number[], all: number): string => {
    return values.length === all ? '*' : values.map(two).join(',')
  }
  const clock = `${list(hours, 24)}:${minutes.length === 60 ? '*' : minutes.map(two).join(',')}:00`
  const when = (byDay: boolean, byWeekday: boolean): string => {
    const weekday = byWeekday && weekdays.length < 7 ? `${weekdays.map((day) => weekdayNames[day]).join(',')} ` : ''
    const date = `*-${list(months, 12)}-${byDay ? list(days, 31) : '*'}`
    return `${weekday}${date} ${clock}${zone === undefined ? '' : ` ${zone}`}`
  }
  if (anyDay || anyWeekday) return [when(true, true)]
  return [when(true, false), when(false, true)]
}
