import { hostname } from 'node:os'
import type { RunNotification } from './run-reporter.js'

/** What a notifier reads from stdin. Documented in README.md, "Be told". */
export function notificationDocument(notification: RunNotification, where: { readonly repository: string }): object {
  const { event, kind, machine, message, outcome, failures } = notification
  const host = hostname()
  const subject = `refpoint ${event}: ${kind}${machine === null ? '' : ` of ${machine}`} on ${host}`
  const hint = outcome?.error?.hint ?? null
  const text = [subject, '', message, ...(hint === null ? [] : [hint])]
  if (failures > 1) text.push(`It is failure number ${failures} in a row.`)
  return {
    event,
    kind,
    machine,
    host,
    repository: where.repository,
    subject,
    text: text.join('\n'),
    message,
    hint,
    code: outcome?.error?.code ?? null,
    failures,
    warnings: outcome?.warnings ?? [],
    startedAt: outcome?.startedAt ?? null,
    endedAt: outcome?.endedAt ?? null,
    facts: outcome?.facts ?? {},
  }
}
