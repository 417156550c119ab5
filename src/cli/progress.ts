import type { GenericBar } from 'cli-progress'
import { formatBytes, formatDuration, formatRate } from './format.js'
import type { Output } from './output.js'
import { Rate } from './rate.js'

/** One long piece of work, such as one machine's backup. */
export interface Progress {
  /** How many bytes there are to do, as soon as that is known; told again when it changes. */
  total(bytes: number): void
  /** So many bytes more were done. */
  advance(bytes: number): void
  /** What is going on: "reading", "writing the index". */
  phase(text: string): void
  /** It ended, well or not; it is no longer shown. */
  done(): void
}

/** Several pieces of work side by side. */
export interface ProgressBoard {
  start(label: string): Progress
  /** Takes everything off the screen. To be called however the work ends. */
  stop(): void
}

/**
 * Bars with rate and remaining time where stderr is a terminal; with `--json` an event of type `progress` at most
 * once a second for each piece; else nothing at all, so that a cron mail stays short.
 */
export async function createProgressBoard(
  output: Output,
  now: () => number = () => performance.now(),
): Promise<ProgressBoard> {
  if (output.interactive) return drawnBoard(output, now)
  return {
    start: (label) => (output.json ? toldProgress(output, label, now) : silent),
    stop: () => {},
  }
}

const silent: Progress = { total() {}, advance() {}, phase() {}, done() {} }

function toldProgress(output: Output, label: string, now: () => number): Progress {
  const state = startState(now)
  let toldMs = Number.NEGATIVE_INFINITY
  const tell = (atOnce: boolean): void => {
    if (!atOnce && now() - toldMs < 1000) return
    toldMs = now()
    output.event({
      type: 'progress',
      name: label,
      phase: state.phase,
      doneBytes: state.done,
      totalBytes: state.total ?? null,
      bytesPerSecond: Math.round(state.rate.bytesPerSecond() ?? 0),
      remainingMs: state.total === undefined ? null : Math.round(state.rate.remainingMs(state.total - state.done) ?? 0),
    })
  }
  return {
    total(bytes) {
      state.total = bytes
    },
    advance(bytes) {
      advance(state, bytes, now())
      tell(false)
    },
    phase(text) {
      state.phase = text
      tell(true)
    },
    done: () => tell(true),
  }
}

async function drawnBoard(output: Output, now: () => number): Promise<ProgressBoard> {
  const { default: cliProgress } = await import('cli-progress')
  const bars = new cliProgress.MultiBar({
    stream: output.stderr,
    format: (_options, _params, state: State) => formatProgress(state, output.columns),
    clearOnComplete: true,
    stopOnComplete: false,
    fps: 5,
    // Signals are the command's: it stops the work, then this.
    gracefulExit: false,
    emptyOnZero: true,
    linewrap: null,
  })
  output.drawing((line) => bars.log(`${line}\n`))
  let open = true
  return {
    start(label) {
      const state = startState(now, label)
      const bar = bars.create(1, 0, state)
      return drawnProgress(state, bar, now, () => bars.remove(bar))
    },
    stop() {
      if (!open) return
      open = false
      output.drawing(undefined)
      // Drawn once more, so that notes that wait in its buffer are not lost.
      bars.update()
      bars.stop()
    },
  }
}

function drawnProgress(state: State, bar: GenericBar, now: () => number, remove: () => void): Progress {
  const show = (): void => {
    bar.setTotal(Math.max(1, state.total ?? 1))
    bar.update(Math.min(state.done, state.total ?? 0), state)
  }
  return {
    total(bytes) {
      state.total = bytes
      show()
    },
    advance(bytes) {
      advance(state, bytes, now())
      show()
    },
    phase(text) {
      state.phase = text
      show()
    },
    done() {
      bar.stop()
      remove()
    },
  }
}

interface State {
  readonly label: string
  phase: string
  done: number
  total: number | undefined
  readonly rate: Rate
}

function startState(now: () => number, label = ''): State {
  return { label, phase: '', done: 0, total: undefined, rate: new Rate(now()) }
}

function advance(state: State, bytes: number, atMs: number): void {
  state.done += bytes
  state.rate.sample(state.done, atMs)
}

/** One line of progress, cut to the terminal's width. Exported for its test. */
export function formatProgress({ label, phase, done, total, rate }: State, columns: number): string {
  const parts = [label.padEnd(12)]
  if (total !== undefined && total > 0) {
    const share = Math.min(1, done / total)
    const width = 20
    const filled = Math.round(share * width)
    parts.push(`[${'='.repeat(filled)}${' '.repeat(width - filled)}]`, `${Math.floor(share * 100)}%`.padStart(4))
    parts.push(`${formatBytes(done)} of ${formatBytes(total)}`)
  } else if (done > 0) parts.push(formatBytes(done))
  const speed = rate.bytesPerSecond()
  if (speed !== undefined) parts.push(formatRate(speed))
  const remaining = total === undefined || done >= total ? undefined : rate.remainingMs(total - done)
  if (remaining !== undefined) parts.push(`${formatDuration(remaining)} left`)
  if (phase !== '') parts.push(phase)
  return parts.join('  ').slice(0, Math.max(20, columns - 1))
}
