import { tzOffset } from '@date-fns/tz/tzOffset'

/** Minutes that local time is ahead of UTC at an instant: in a zone such as Europe/Berlin, or in the system's. */
export function offsetMinutesIn(zone: string | undefined): (timeMs: number) => number {
  if (zone === undefined) return (timeMs) => -new Date(timeMs).getTimezoneOffset()
  return (timeMs) => {
    const offset = tzOffset(zone, new Date(timeMs))
    if (Number.isNaN(offset)) throw new RangeError(`no such time zone: ${zone}`)
    return offset
  }
}
