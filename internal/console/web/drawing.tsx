import { byName, graph, queueByName, type Edge, type Node } from './now'
import { count, Link, rate } from './show'

const name = (id: string, kind: string) => id.startsWith(kind + '/') ? id.slice(kind.length + 1) : null

/** How fast an edge moves, and whether its target takes nothing. */
function flow(e: Edge): { rate: number; failing: boolean } | null {
  const read = e.role === 'source' ? name(e.to, 'pipeline') : null
  if (read !== null) {
    const p = byName.value.get(read)
    return p ? { rate: p.read_rate, failing: false } : null
  }
  const s = byName.value.get(name(e.from, 'pipeline') ?? '')?.sinks.find(s => s.role === e.role)
  return s ? { rate: s.rate, failing: !!s.failing } : null
}

const fit = (text: string, most: number) => [...text].length > most ? [...text].slice(0, most - 1).join('') + '…' : text

function Box({ n, mark }: { n: Node; mark?: string }) {
  const middle = n.x + n.w / 2
  const queue = queueByName.value.get(name(n.id, 'queue') ?? '')
  const p = byName.value.get(n.kind === 'machine' ? n.id : name(n.id, 'pipeline') ?? '')
  const detail = queue ? `${count(queue.waiting + queue.leased + queue.retrying)} open` + (queue.dead ? `, ${count(queue.dead)} dead` : '') : n.detail
  const round = n.kind === 'source' || n.kind === 'target' ? n.h / 2 : n.kind === 'machine' ? 8 : 4
  const body = <g class={mark ? n.kind + ' ' + mark : n.kind}>
    <title>{[n.label, detail, p?.state].filter(Boolean).join(', ')}</title>
    <rect class="n" x={n.x} y={n.y} width={n.w} height={n.h} rx={round} />
    {n.kind === 'queue' && [5, 9].map(d => <path class="n" d={`M${n.x + n.w - d} ${n.y + 4}V${n.y + n.h - 4}`} />)}
    <text x={middle} y={detail ? n.y + 18 : n.y + n.h / 2 + 4.7}>{fit(n.label, 28)}</text>
    {detail && <text class="d" x={middle} y={n.y + 34}>{fit(detail, 33)}</text>}
    {p && (p.state === 'waiting' || p.state === 'degraded') && (p.state === 'waiting'
      ? <path class="mark waiting" d={`M${n.x + n.w} ${n.y - 9}l9 16h-18z`} />
      : <path class="mark degraded" d={`M${n.x + n.w - 4} ${n.y - 8}h8l6 6v6l-6 6h-8l-6-6v-6z`} />)}
  </g>
  if (p) return <Link page={'/p/' + p.name}>{body}</Link>
  if (queue) return <Link page={'/q/' + queue.name}>{body}</Link>
  return body
}

/** The drawing of what runs; of says of single nodes how they are to be seen. */
export function Drawing({ of }: { of?: (node: string) => string }) {
  const g = graph.value
  if (!g) return <p class="empty">The drawing is being fetched.</p>
  const nodes = g.nodes ?? [], edges = g.edges ?? []
  if (nodes.length === 0) return <p class="empty">Nothing runs. A config with a source and a target is drawn here.</p>
  return <div class="drawing" tabIndex={0} role="region" aria-label="Drawing of the pipelines; the table below it says the same">
    <svg width={g.width} height={g.height} viewBox={`0 0 ${g.width} ${g.height}`}>
      <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" fill="context-stroke" /></marker></defs>
      {edges.map(e => {
        const f = flow(e), [a, b] = e.points
        return <g class={[e.role?.split('.')[0], of && (of(e.from) === 'aside' || of(e.to) === 'aside') ? 'aside' : '', f?.failing ? 'failing' : f && f.rate > 0 ? 'live' : ''].join(' ')}>
          <path class="e" d={e.path} marker-end="url(#arrow)" />
          {f && a && b && (f.rate > 0 || f.failing) && <text class="rate" x={(a[0] + b[0]) / 2} y={(a[1] + b[1]) / 2 - 5}>{f.failing ? 'takes nothing' : rate(f.rate)}</text>}
        </g>
      })}
      {nodes.map(n => <Box key={n.id} n={n} mark={of?.(n.id)} />)}
    </svg>
  </div>
}
