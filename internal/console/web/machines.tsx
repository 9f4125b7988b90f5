import { useEffect, useState } from 'preact/hooks'
import { ask, query, type Payload } from './api'
import { graph, type Graph, type Node } from './now'
import { Facts, Held } from './parts'
import { count, Link, Moment, span, State } from './show'

type Machine = { name: string; comment?: string; to_start: number; steps: number; dead: number; started: number; succeeded: number; failed: number; timed_out: number; aborted: number; keep: number }
type Whole = Machine & { queue: string; graph: Graph; running: number; waiting: number; at: Record<string, number>; more?: boolean }
type Line = { id: string; status: string; started?: string; stopped?: string; states: string[]; due?: string; retries?: number; cause?: string; events?: number; job?: string; trouble?: string }
type Page = { executions: Line[]; next?: string; undated?: boolean }
type Thread = { state: string; depth: number; branch: number; phase: string; entered?: string; retries?: number; count?: number; begun?: number; left?: number }
type One = Line & { graph: Graph | null; here: string[]; passed: string[]; perhaps: string[]; threads: Thread[]; hidden?: boolean; input?: Payload; output?: Payload; undated?: boolean }

const empty = `machine "orders" {
  definition = "orders.asl.json"
}
pipeline "start" {
  source {
    use "http" {}
  }
  target {
    use "machine" {
      name = "orders"
    }
  }
}`

const shapes: Record<string, string> = { running: 'running', waiting: 'waiting', succeeded: 'running', failed: 'degraded', 'timed out': 'degraded', aborted: 'degraded' }
const Status = ({ of }: { of: string }) => <State of={shapes[of] ?? 'idle'} word={of} />
const fit = (text: string, most: number) => [...text].length > most ? [...text].slice(0, most - 1).join('') + '…' : text

/** The states of a machine; of says how each is to be seen, and at how many executions are there. */
function States({ g, of, at, name }: { g: Graph; of?: (node: string) => string; at?: Record<string, number>; name: string }) {
  const box = (n: Node) => {
    const middle = n.x + n.w / 2, mark = of?.(n.id) ?? '', here = at?.[n.label] ?? 0
    if (n.kind === 'start' || n.kind === 'end') return <g class={n.kind + ' ' + mark}><title>{n.label}</title><circle class="n" cx={middle} cy={n.y + n.h / 2} r={n.w / 2} /></g>
    return <g class={'state-node ' + mark}>
      <title>{[n.label, n.detail, here ? here + ' executions' : ''].filter(Boolean).join(', ')}</title>
      <rect class="n" x={n.x} y={n.y} width={n.w} height={n.h} rx="8" />
      <text x={middle} y={n.y + 18}>{fit(n.label, 28)}</text><text class="d" x={middle} y={n.y + 34}>{fit(n.detail ?? '', 33)}</text>
      {here > 0 && <><rect class="badge" x={n.x + n.w - 10 - 8 * count(here).length} y={n.y - 9} width={14 + 8 * count(here).length} height="18" rx="9" /><text class="badge" x={n.x + n.w - 3 - 4 * count(here).length} y={n.y + 4}>{count(here)}</text></>}
    </g>
  }
  return <div class="drawing down" tabIndex={0} role="region" aria-label={name}>
    <svg width={g.width} height={g.height} viewBox={`0 0 ${g.width} ${g.height}`}>
      <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" fill="context-stroke" /></marker></defs>
      {(g.edges ?? []).map(e => {
        const [a, b] = e.points
        return <g class={e.role}><path class="e" d={e.path} marker-end="url(#arrow)" />{e.label && a && b && <text class="rate" x={a[0] + (b[0] - a[0]) * 0.72} y={a[1] + (b[1] - a[1]) * 0.62}>{e.label}</text>}</g>
      })}
      {(g.nodes ?? []).map(box)}
    </svg>
  </div>
}

export function Machines() {
  const [all, set] = useState<Machine[] | null>(null), [wrong, tell] = useState('')
  useEffect(() => {
    if (!graph.value) return
    let over = false
    const load = () => { if (!document.hidden) ask<{ machines: Machine[] }>('v1/machines').then(x => { if (!over) { set(x.machines); tell('') } }, (e: Error) => { if (!over) tell(e.message) }) }
    load()
    const timer = setInterval(load, 2000)
    return () => { over = true; clearInterval(timer) }
  }, [graph.value])
  return <>
    <h1>Machines</h1>
    {wrong && <p class="bad" role="alert">{wrong}</p>}
    {!all && !wrong && <p class="empty">The machines are being asked.</p>}
    {all && all.length === 0 && <div class="panel"><p class="empty">This config has no machine. One takes each message through the states of a definition in the States Language, as long as that takes:</p><pre>{empty}</pre></div>}
    {all && all.length > 0 && <div class="panel scroll" tabIndex={0} role="region" aria-label="Machines"><table>
      <thead><tr><th>Machine</th><th>State</th><th class="n">To start</th><th class="n">Open steps</th><th class="n">Started</th><th class="n">Succeeded</th><th class="n">Failed</th><th class="n">Timed out</th><th class="n">Kept, failed</th></tr></thead>
      <tbody>{all.map(m => <tr key={m.name}>
        <td><Link page={'/machines/' + m.name}>{m.name}</Link></td><td>{m.steps + m.to_start > 0 ? <State of="running" word="in work" /> : <State of="idle" word="nothing to do" />}</td>
        <td class="n">{count(m.to_start)}</td><td class="n">{count(m.steps)}</td><td class="n">{count(m.started)}</td><td class="n">{count(m.succeeded)}</td><td class={m.failed + m.aborted ? 'n bad' : 'n'}>{count(m.failed + m.aborted)}</td><td class={m.timed_out ? 'n bad' : 'n'}>{count(m.timed_out)}</td><td class={m.dead ? 'n bad' : 'n'}>{count(m.dead)}</td>
      </tr>)}</tbody>
    </table></div>}
    {all && all.length > 0 && <p class="soft">Started, succeeded, failed and timed out are counted since the process began; the others are what the store holds.</p>}
  </>
}

const statuses: [string, string][] = [['running', 'that go on'], ['waiting', 'that wait for a time'], ['failed', 'that failed'], ['ended', 'that ended and are kept']]
const none: Record<string, string> = { running: 'No execution goes on.', waiting: 'No execution waits for a time.', failed: 'No execution that failed is kept.', ended: 'No execution that ended is kept.' }

function Due({ l }: { l: Line }) {
  if (!l.due) return l.status === 'waiting' ? <span class="soft">not found</span> : null
  const left = (Date.parse(l.due) - Date.now()) / 1000
  return left > 0 ? <span><Moment at={l.due} /> <span class="soft">in {span(left)}</span></span> : <>at once</>
}

function List({ name, status, shown, show }: { name: string; status: string; shown: string; show: (l: Line) => void }) {
  const [page, set] = useState<Page | null>(null), [wrong, tell] = useState(''), [busy, work] = useState(false)
  const load = (after?: string) => {
    work(true); tell('')
    ask<Page>(`v1/machines/${encodeURIComponent(name)}/executions?` + query({ status, after })).then(p => set(was => after && was ? { ...p, executions: [...was.executions, ...p.executions] } : p), (e: Error) => tell(e.message)).finally(() => work(false))
  }
  useEffect(() => { set(null); load() }, [name, status])
  const past = status === 'failed' || status === 'ended'
  return <>
    {wrong && <p class="bad" role="alert">{wrong}</p>}
    {!page && !wrong && <p class="empty">They are being looked for.</p>}
    {page && page.executions.length === 0 && !page.next && <div class="panel"><p class="empty">{none[status]}{status === 'ended' && <> Those that succeeded leave nothing, unless the machine says for how long: <code>keep_ended_seconds = 3600</code></>}</p></div>}
    {page && page.executions.length > 0 && <div class="panel scroll tall" tabIndex={0} role="region" aria-label="Executions"><table>
      <thead><tr><th>Execution</th><th>Status</th><th>{past ? 'Ended' : 'Since'}</th><th>State</th>{!past && <th>Goes on</th>}<th class="n">Retries</th><th>{past ? 'Cause' : 'Trouble'}</th></tr></thead>
      <tbody>{page.executions.map(l => <tr key={l.id + (l.job ?? '')} class={l.id === shown ? 'chosen' : undefined}>
        <td><button class="link" onClick={() => show(l)}>{l.id}</button></td><td><Status of={l.status} /></td><td>{past ? l.stopped && <Moment at={l.stopped} /> : l.started && <Moment at={l.started} />}</td>
        <td>{l.states.slice(0, 3).join(', ')}{l.states.length > 3 ? ', …' : ''}</td>{!past && <td><Due l={l} /></td>}<td class="n">{l.retries ? count(l.retries) : ''}</td><td class="wide">{l.trouble ?? l.cause}</td>
      </tr>)}</tbody>
    </table></div>}
    {page?.next && <div class="bar"><button disabled={busy} onClick={() => load(page.next)}>More</button>{page.executions.length === 0 && <span class="soft">None among those that were looked at; there are more.</span>}</div>}
    {page?.undated && <p class="soft">There are more timers than were looked through: not every time is known.</p>}
  </>
}

function Execution({ name, id, job, close }: { name: string; id: string; job?: string; close: () => void }) {
  const [x, set] = useState<One | null>(null), [wrong, tell] = useState(''), [turn, again] = useState(0)
  useEffect(() => { tell(''); ask<One>(`v1/machines/${encodeURIComponent(name)}/executions/${encodeURIComponent(id)}?` + query({ job })).then(set, (e: Error) => { set(null); tell(e.message) }) }, [name, id, job, turn])
  const here = new Set(x?.here), passed = new Set(x?.passed), perhaps = new Set(x?.perhaps)
  return <section class="panel one" aria-label="One execution">
    <div class="bar"><h2>One execution</h2><span class="grow" /><button onClick={() => again(turn + 1)}>Look again</button><button onClick={close}>Close</button></div>
    {wrong && <p class="bad why" role="alert">{wrong}</p>}
    {x && <>
      {x.cause && <p class="cause">{x.cause}</p>}{x.trouble && <p class="cause bad">{x.trouble}</p>}
      <Facts of={[['execution', x.id], ['status', <Status of={x.status} />], ['started', x.started && <Moment at={x.started} />], ['ended', x.stopped && <Moment at={x.stopped} />], ['goes on', x.due && <Due l={x} />], ['events', x.events ? count(x.events) : ''], ['message of the queue', x.job]]} />
      {x.graph && <><States g={x.graph} name="The way of the execution through the states; the table below it says where it is" of={n => here.has(n) ? (x.status === 'failed' || x.status === 'timed out' || x.status === 'aborted' ? 'here wrong' : 'here') : passed.has(n) ? 'through' : perhaps.has(n) ? 'perhaps' : x.here.length ? 'aside' : ''} />
        <p class="legend"><span class="key here">{x.status === 'running' || x.status === 'waiting' ? 'is here' : 'ended here'}</span><span class="key through">must have passed</span>{x.perhaps.length > 0 && <span class="key perhaps">may have passed</span>}</p></>}
      <p class="soft why">Where it is, is recorded, and what it must have passed to come there follows from the definition it was started with. Which of several ways it took is not recorded.</p>
      {x.threads.length > 0 && <div class="panel scroll" tabIndex={0} role="region" aria-label="Where it is"><table>
        <thead><tr><th>State</th><th>Is</th><th>Since</th><th class="n">Retries</th><th>Of a branch or item</th></tr></thead>
        <tbody>{x.threads.map(t => <tr><td style={`padding-left:${14 + 18 * t.depth}px`}>{t.state}</td><td>{t.phase === 'task' ? 'at work' : t.phase === 'branches' ? `at work, ${count(t.left ?? 0)} of ${count(t.count ?? 0)} not ended` : t.phase}</td><td>{t.entered && <Moment at={t.entered} />}</td><td class="n">{t.retries || ''}</td><td>{t.branch >= 0 ? t.branch + 1 : ''}</td></tr>)}</tbody>
      </table></div>}
      <Held name="Input" of={x.input} hidden={x.hidden} />
      {x.output !== undefined && <Held name="Output" of={x.output} />}
    </>}
  </section>
}

/** One machine: its states, how many executions are in each, and the executions by status. */
export function OneMachine({ name }: { name: string }) {
  const address = new URLSearchParams(location.search)
  const [m, set] = useState<Whole | null>(null), [wrong, tell] = useState(''), [status, choose] = useState(address.get('status') ?? 'running'), [turn, again] = useState(0)
  const [one, show] = useState<{ id: string; job?: string } | null>(address.get('execution') ? { id: address.get('execution')!, job: address.get('job') ?? undefined } : null)
  useEffect(() => { if (graph.value) { tell(''); ask<Whole>('v1/machines/' + encodeURIComponent(name)).then(set, (e: Error) => tell(e.message)) } }, [name, turn, graph.value])
  useEffect(() => { history.replaceState(null, '', location.pathname + '?' + query({ status, execution: one?.id, job: one?.job })) }, [status, one])
  return <>
    <div class="bar"><h1>{name}</h1><span class="grow" /><button onClick={() => again(turn + 1)}>Look again</button></div>
    {wrong && <p class="bad" role="alert">{wrong} <Link page="/machines">See all machines.</Link></p>}
    {m && <>
      {m.comment && <p class="soft why">{m.comment}</p>}
      <div class="panel"><dl class="facts">{([['go on', (m.more ? 'more than ' : '') + count(m.running)], ['of these wait', count(m.waiting)], ['to start', count(m.to_start)], ['succeeded', count(m.succeeded)], ['failed', count(m.failed + m.aborted)], ['timed out', count(m.timed_out)], ['kept, failed', count(m.dead)]] as const).map(([k, v]) => <div><dt>{k}</dt><dd>{v}</dd></div>)}</dl></div>
      <p><Link page={'/q/' + m.queue}>What is to be started, and what failed, as messages</Link></p>
      {one && <Execution name={name} id={one.id} job={one.job} close={() => show(null)} />}
      {!one && <><h2>States, and how many executions are in each</h2><div class="panel"><States g={m.graph} at={m.at} name="States of the machine" /></div></>}
      <h2>Executions</h2>
      <div class="bar"><span class="choice" role="group" aria-label="Status">{statuses.map(([s, word]) => <button aria-pressed={s === status} onClick={() => choose(s)}>{word}</button>)}</span></div>
      <List key={turn} name={name} status={status} shown={one?.id ?? ''} show={l => show({ id: l.id, job: l.job })} />
    </>}
  </>
}
