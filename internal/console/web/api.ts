import { signal } from '@preact/signals'

/** Who asks, and what he may do; null until that is known. */
export const who = signal<{ name: string; right: string } | null>(null)
const rights = ['see', 'payloads', 'operate']
export const may = (right: string) => rights.indexOf(who.value?.right ?? '') >= rights.indexOf(right)

/** An answer of the API; a problem document is thrown as what it says. */
export async function ask<T>(path: string, body?: unknown): Promise<T> {
  const r = await fetch(path, body === undefined ? {} : { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) })
  const text = await r.text()
  if (!r.ok) {
    let why = r.status + ' ' + r.statusText
    try { why = (JSON.parse(text) as { detail?: string }).detail ?? why } catch { /* no problem document */ }
    throw new Error(why)
  }
  const last = text.trimEnd().split('\n').pop() ?? '' // what takes long says in lines how far it is
  return JSON.parse(r.headers.get('Content-Type')?.includes('ndjson') ? last : text) as T
}

export const query = (of: Record<string, string | undefined>) => {
  const q = new URLSearchParams()
  for (const [k, v] of Object.entries(of)) if (v) q.set(k, v)
  return q.toString()
}

export type Payload = string | { base64: string } | null | undefined
/** A payload as people read it: JSON in lines, other text as it is. */
export function readable(p: Payload): string {
  if (p === null || p === undefined) return ''
  if (typeof p !== 'string') return 'base64 ' + p.base64
  try { return JSON.stringify(JSON.parse(p), null, 2) } catch { return p }
}
export const text = (p: Payload) => p === null || p === undefined ? '' : typeof p === 'string' ? p : 'base64 ' + p.base64

/** The lines of a and b, each with what became of it: ' ', '-' or '+'. Where more than a thousand lines lie
 * between the first and the last difference, all of these are other ones. */
export function difference(a: string, b: string): [string, string][] {
  const from = a.split('\n'), into = b.split('\n')
  let head = 0, tail = 0
  while (head < from.length && head < into.length && from[head] === into[head]) head++
  while (tail < from.length - head && tail < into.length - head && from[from.length - 1 - tail] === into[into.length - 1 - tail]) tail++
  const x = from.slice(head, from.length - tail), y = into.slice(head, into.length - tail)
  const same = (lines: string[]) => lines.map((l): [string, string] => [' ', l])
  return [...same(from.slice(0, head)), ...between(x, y), ...same(from.slice(from.length - tail))]
}
function between(x: string[], y: string[]): [string, string][] {
  if (x.length > 1000 || y.length > 1000) return [...x.map((l): [string, string] => ['-', l]), ...y.map((l): [string, string] => ['+', l])]
  const long = Array.from({ length: x.length + 1 }, () => new Uint16Array(y.length + 1))
  for (let i = x.length - 1; i >= 0; i--) for (let j = y.length - 1; j >= 0; j--) {
    long[i]![j] = x[i] === y[j] ? long[i + 1]![j + 1]! + 1 : Math.max(long[i + 1]![j]!, long[i]![j + 1]!)
  }
  const out: [string, string][] = []
  let i = 0, j = 0
  while (i < x.length || j < y.length) {
    if (i < x.length && j < y.length && x[i] === y[j]) { out.push([' ', x[i]!]); i++; j++ }
    else if (j >= y.length || i < x.length && long[i + 1]![j]! >= long[i]![j + 1]!) out.push(['-', x[i++]!])
    else out.push(['+', y[j++]!])
  }
  return out
}

/** Of a difference what has changed and three lines around that, with '…' for what is left out. */
export function around(lines: [string, string][]): [string, string][] {
  const near = new Set<number>()
  lines.forEach(([mark], i) => { if (mark !== ' ') for (let k = i - 3; k <= i + 3; k++) near.add(k) })
  return lines.flatMap((l, i): [string, string][] => near.has(i) ? [l] : near.has(i - 1) || i === 0 ? [['…', '']] : [])
}

/** Gives the browser a file to keep. */
export function save(name: string, content: string) {
  const a = document.createElement('a')
  a.href = URL.createObjectURL(new Blob([content], { type: 'text/plain' }))
  a.download = name
  a.click()
  setTimeout(() => URL.revokeObjectURL(a.href), 1000)
}
