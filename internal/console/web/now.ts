import { computed, signal } from '@preact/signals'
import { ask, who } from './api'

// What GET /v1/live sends, as console.Now has it.
export type Sink = { role: string; written: number; rate: number; failures: number; retries: number; failing?: string; destinations?: number }
export type Pipeline = {
  name: string; state: string; since?: string; read: number; read_rate: number; filtered: number; invalid: number
  in_flight: number; oldest: number; behind: number; behind_age: number; restarts: number; sinks: Sink[]
}
export type Queue = { name: string; waiting: number; leased: number; retrying: number; dead: number; bytes: number; growth: number; paused?: number }
export type Need = { what: string; do: string; page: string; since?: string }
export type Now = { at: string; version: string; unready?: string; store?: string; pipelines: Pipeline[]; queues: Queue[]; needs: Need[] }

export type Node = { id: string; kind: string; label: string; detail?: string; x: number; y: number; w: number; h: number }
export type Edge = { from: string; to: string; role?: string; label?: string; points: [number, number][]; path: string }
export type Graph = { nodes: Node[] | null; edges: Edge[] | null; width: number; height: number }

export const now = signal<Now | null>(null)
export const graph = signal<Graph | null>(null)
/** How the stream is: "asked", "open", "lost" (it is tried again) or "refused" (a token is asked for). */
export const link = signal<'asked' | 'open' | 'lost' | 'refused'>('asked')
/** Frames that this page was too slow for. */
export const missed = signal(0)
/** Read rates of each pipeline, the newest last: five minutes at most, while the page is open. */
export const history = new Map<string, number[]>()
const kept = 300

export const byName = computed(() => new Map((now.value?.pipelines ?? []).map(p => [p.name, p])))
export const queueByName = computed(() => new Map((now.value?.queues ?? []).map(q => [q.name, q])))

let stream: EventSource | null = null
let hidden = 0

export async function loadGraph() {
  const r = await fetch('v1/graph')
  if (r.status === 401) { link.value = 'refused'; return }
  if (r.ok) graph.value = await r.json() as Graph
  who.value = await ask<{ name: string; right: string }>('v1/session').catch(() => null)
}

function take(text: string) {
  const n = JSON.parse(text) as Now
  for (const p of n.pipelines) {
    const h = history.get(p.name) ?? []
    h.push(p.read_rate)
    if (h.length > kept) h.shift()
    history.set(p.name, h)
  }
  now.value = n
}

/** Opens the one stream of this page; a browser allows six connections to a server, all pages together. */
export function connect() {
  stream?.close()
  const s = stream = new EventSource('v1/live')
  s.onopen = () => { link.value = 'open'; void loadGraph() }
  s.addEventListener('now', e => take((e as MessageEvent<string>).data))
  s.addEventListener('config', () => void loadGraph())
  s.addEventListener('lost', e => { missed.value += (JSON.parse((e as MessageEvent<string>).data) as { frames: number }).frames })
  s.onerror = () => {
    if (s !== stream) return
    if (link.value !== 'refused') link.value = 'lost'
    if (s.readyState === EventSource.CLOSED) { // the browser gives up on an answer that is no stream
      void fetch('v1/graph').then(r => { if (r.status === 401) link.value = 'refused'; else again() }, again)
    }
  }
}

let waits = 0
function again() {
  clearTimeout(waits)
  waits = window.setTimeout(connect, 2000)
}

document.addEventListener('visibilitychange', () => {
  clearTimeout(hidden)
  if (document.hidden) hidden = window.setTimeout(() => { stream?.close(); stream = null }, 30000)
  else if (!stream) connect()
})
