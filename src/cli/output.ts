/**
 * Where a command's words go.
 *
 * As text: what was asked for on stdout, everything else (progress, warnings, errors) on stderr.
 * With `--json`: exactly one JSON document on stdout, at the end; while it runs, events on stderr, one JSON object on
 * each line, each with a `type`. A command that fails writes nothing to stdout, and an event of type `error` last.
 */
export interface Output {
  readonly json: boolean
  /** Whether stderr is a terminal and text is wanted there: only then is progress drawn. */
  readonly interactive: boolean
  /** Width for tables and bars, in characters. */
  readonly columns: number
  /** A line for people on stdout. */
  line(text?: string): void
  /** A line for people on stderr: what is worth knowing but was not asked for. */
  note(text: string): void
  /** For programs: something happened. */
  event(event: { readonly type: string } & Readonly<Record<string, unknown>>): void
  /** For programs: the result, once. */
  result(document: unknown): void
  /** While something draws on the terminal, notes go through it instead of across it; undefined when it ends. */
  drawing(draw: ((line: string) => void) | undefined): void
  readonly stderr: TextStream
}

/** What is needed of `process.stdout` and `process.stderr`. */
export type TextStream = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number }

export interface OutputOptions {
  readonly json: boolean
  readonly stdout: TextStream
  readonly stderr: TextStream
}

export function createOutput({ json, stdout, stderr }: OutputOptions): Output {
  let draw: ((line: string) => void) | undefined
  return {
    json,
    interactive: !json && stderr.isTTY === true && process.env['TERM'] !== 'dumb',
    columns: stdout.columns ?? 120,
    stderr,
    line(text = '') {
      if (!json) stdout.write(`${text}\n`)
    },
    note(text) {
      if (json) return
      if (draw === undefined) stderr.write(`${text}\n`)
      else draw(text)
    },
    event(event) {
      if (json) stderr.write(`${JSON.stringify(event, plain)}\n`)
    },
    result(document) {
      if (json) stdout.write(`${JSON.stringify(document, plain, 2)}\n`)
    },
    drawing(drawer) {
      draw = drawer
    },
  }
}

/** Maps, sets and big numbers have no JSON of their own, and would vanish without a word. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString()
  if (value instanceof Map) return Object.fromEntries(value)
  if (value instanceof Set) return [...value]
  if (value instanceof Error) return value.message
  return value
}
