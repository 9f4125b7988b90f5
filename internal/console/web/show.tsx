import type { ComponentChildren } from 'preact'
import { signal } from '@preact/signals'

const base = new URL(document.baseURI).pathname
/** The page that is shown: a path below the console's. */
export const place = signal(current())
function current() {
  return '/' + location.pathname.slice(base.length).split('/').map(part => { try { return decodeURIComponent(part) } catch { return part } }).join('/')
}
addEventListener('popstate', () => { place.value = current() })

export function to(page: string) { return base + page.replace(/^\//, '').split('/').map(encodeURIComponent).join('/') }

export function Link({ page, children, ...more }: { page: string; children: ComponentChildren; class?: string; 'aria-current'?: 'page' | undefined }) {
  return <a href={to(page)} {...more} onClick={e => {
    if (e.ctrlKey || e.metaKey || e.shiftKey || e.button !== 0) return
    e.preventDefault()
    history.pushState(null, '', to(page))
    place.value = current()
    document.getElementById('content')?.focus()
  }}>{children}</a>
}

const whole = new Intl.NumberFormat('en')
export const count = (n: number) => whole.format(Math.round(n))
export function rate(r: number) {
  if (r === 0) return '0/s'
  if (r < 10) return r.toFixed(1) + '/s'
  if (r < 10000) return count(r) + '/s'
  return (r / 1000).toFixed(1) + 'k/s'
}
export function bytes(n: number) {
  for (const unit of ['B', 'kB', 'MB', 'GB']) {
    if (n < 1000) return (n < 10 && unit !== 'B' ? n.toFixed(1) : Math.round(n)) + ' ' + unit
    n /= 1000
  }
  return n.toFixed(1) + ' TB'
}
export function span(seconds: number) {
  if (seconds < 0) return 'not known'
  if (seconds < 1) return Math.round(seconds * 1000) + ' ms'
  if (seconds < 120) return seconds.toFixed(seconds < 10 ? 1 : 0) + ' s'
  if (seconds < 7200) return Math.floor(seconds / 60) + ' min'
  if (seconds < 172800) return Math.floor(seconds / 3600) + ' h'
  return Math.floor(seconds / 86400) + ' d'
}
export function Since({ at, now, ago }: { at: string; now: string; ago?: boolean }) {
  const passed = Math.max(0, (Date.parse(now) - Date.parse(at)) / 1000)
  return <time dateTime={at} title={new Date(at).toLocaleString()}>{ago ? span(passed) + ' ago' : 'for ' + span(passed)}</time>
}

/** A moment, as people say it, with the whole of it behind. */
export function Moment({ at }: { at: string }) {
  const d = new Date(at), today = d.toDateString() === new Date().toDateString()
  return <time dateTime={at} title={d.toLocaleString()}>{today ? d.toLocaleTimeString() : d.toLocaleString()}</time>
}

// A state is a word and a shape; colour only adds to them.
const shapes: Record<string, string> = {
  running: 'M5 0a5 5 0 1 0 .01 0z', ready: 'M5 0a5 5 0 1 0 .01 0z', idle: 'M5 1a4 4 0 1 0 .01 0zm0 1.6a2.4 2.4 0 1 1-.01 0z',
  waiting: 'M5 0l5 9.5H0z', lost: 'M5 0l5 9.5H0z', degraded: 'M3 0h4l3 3v4l-3 3H3L0 7V3z', unready: 'M3 0h4l3 3v4l-3 3H3L0 7V3z',
}
export function State({ of, word }: { of: string; word?: string }) {
  return <span class={'state ' + of}><svg viewBox="0 0 10 10" aria-hidden="true"><path d={shapes[of] ?? shapes.idle} fill="currentColor" fill-rule="evenodd" /></svg>{word ?? of}</span>
}
