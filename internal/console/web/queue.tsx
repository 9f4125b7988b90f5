import { useEffect, useState } from 'preact/hooks'
import { ask, may, query, type Payload } from './api'
import { Facts, headers, Held, Moment, Sure, whose } from './parts'
import { now, queueByName } from './now'
import { bytes, count, Link, span, State } from './show'

type Job = { id: string; state: string; workspace?: string; source?: string; destination?: string; at: string; attempts?: number; not_before?: string; cause?: string; ordered?: boolean; message_id?: string; key?: string; headers?: unknown; payload?: Payload; raw?: Payload; hidden?: boolean; bytes?: number }
type Page = { jobs: Job[]; next?: string }
type Paused = { by?: string; value?: string; since?: string; who?: string; why?: string }

function Due({ j }: { j: Job }) {
  if (j.state === 'dead') return <>never</>
  const in_ = j.not_before ? (Date.parse(j.not_before) - Date.now()) / 1000 : 0
  return in_ > 0 ? <time dateTime={j.not_before} title={new Date(j.not_before!).toLocaleString()}>in {span(in_)}</time> : <>at once</>
}

function One({ name, id, dead }: { name: string; id: string; dead: boolean }) {
  const [j, set] = useState<Job | null>(null), [wrong, tell] = useState('')
  useEffect(() => {
    set(null); tell('')
    ask<Page>(`v1/queues/${encodeURIComponent(name)}/jobs?` + query({ ids: id, dead: dead ? 'true' : undefined })).then(p => p.jobs[0] ? set(p.jobs[0]) : tell('It is not there any more.'), (e: Error) => tell(e.message))
  }, [name, id, dead])
  return <section class="panel one" aria-label="One message">
    <h2>One message</h2>
    {wrong && <p class="bad why" role="alert">{wrong}</p>}
    {j && <>
      {j.cause && <p class="cause">{j.cause}</p>}
      <Facts of={[['id', j.id], ['due', <Due j={j} />], ['attempts that failed', count(j.attempts ?? 0)], ['came', <Moment at={j.at} />], ['workspace', j.workspace], ['source', j.source], ['destination', j.destination], ['message', j.message_id && <Link page={'/m/' + j.message_id}>{j.message_id}</Link>], ['key', j.key], ['order', j.ordered ? 'kept by key' : ''], ['headers', headers(j.headers)]]} />
      <Held name="Payload" of={j.payload} hidden={j.hidden} />
      {j.raw !== undefined && j.raw !== null && <Held name="As it was read first" of={j.raw} />}
    </>}
  </section>
}

export function OneQueue({ name }: { name: string }) {
  const q = queueByName.value.get(name)
  const [dead, choose] = useState(false), [by, axis] = useState(''), [value, of] = useState(''), [page, set] = useState<Page | null>(null), [shown, show] = useState(''), [wrong, tell] = useState(''), [turn, again] = useState(0), [rests, rest] = useState<Paused[]>([])
  const at = `v1/queues/${encodeURIComponent(name)}/`
  const selection = { ...(dead ? { dead: true } : {}), ...(by && value ? { by, value } : {}) }
  const params = { dead: dead ? 'true' : undefined, ...(by && value ? { by, value } : {}) }
  const whole = !(by && value)
  const load = (after?: string) => ask<Page>(at + 'jobs?' + query({ ...params, payload: 'false', limit: '50', after })).then(p => set(was => after && was ? { jobs: [...was.jobs, ...p.jobs], next: p.next } : p), (e: Error) => tell(e.message))
  useEffect(() => {
    tell('')
    void load()
    ask<{ queues: { name: string; paused?: Paused[] }[] }>('v1/queues').then(o => rest((o.queues.find(x => x.name === name)?.paused ?? []).map(r => r.by === 'none' ? { ...r, by: '', value: '' } : r)), () => {})
  }, [name, dead, by, value, turn])
  const counted = (what: string) => async (): Promise<[number, string]> => {
    const n = (await ask<{ jobs: number }>(at + 'count?' + query(params))).jobs
    return [n, `${count(n)} ${n === 1 ? 'message' : 'messages'} ${what}`]
  }
  const about = whole ? {} : { by, value }
  const part = whole ? 'all of it' : `${by} ${value}`
  const paused = rests.some(r => (r.by ?? '') === (whole ? '' : by) && (r.value ?? '') === (whole ? '' : value))
  const act = (what: string, body: object, said: (n: number) => string) => async () => {
    const r = await ask<{ jobs?: number; figures?: { jobs?: number } | null; error?: string }>(at + what, body)
    if (r.error) throw new Error(r.error)
    again(turn + 1)
    return said(r.jobs ?? r.figures?.jobs ?? 0)
  }
  return <>
    <h1>{name}</h1>
    {q && <div class="panel"><dl class="facts">{([['waiting', q.waiting], ['in work', q.leased], ['to be retried', q.retrying], ['dead', q.dead]] as const).map(([k, v]) => <div><dt>{k}</dt><dd class={k === 'dead' && v ? 'bad' : undefined}>{count(v)}</dd></div>)}<div><dt>on disk</dt><dd>{bytes(q.bytes)}</dd></div></dl></div>}
    {rests.map(r => <p><State of="waiting" word={`${r.by ? `${r.by} ${r.value}` : 'all of it'} is paused`} /> <span class="soft">{r.since && <Moment at={r.since} />} {r.who && 'by ' + r.who}{r.why && ': ' + r.why}</span></p>)}
    <div class="bar">
      <label>Show <select value={dead ? 'dead' : 'open'} onChange={e => { show(''); choose(e.currentTarget.value === 'dead') }}><option value="open">open messages, the next first</option><option value="dead">dead messages</option></select></label>
      <label>of <select aria-label="Part" value={by} onChange={e => axis(e.currentTarget.value)}><option value="">everybody</option><option>workspace</option><option>source</option><option>destination</option></select></label>
      {by && <label>called <input value={value} onChange={e => of(e.currentTarget.value)} autocomplete="off" /></label>}
      <button onClick={() => again(turn + 1)}>Look again</button>
    </div>
    {may('operate') && <div class="bar">
      {paused
        ? <Sure word={`Resume ${part}`} count={async () => [1, `The work on ${part} goes on.`]} act={act('resume', about, () => 'It goes on.')} />
        : <Sure word={`Pause ${part}`} count={async () => { const n = (await ask<{ jobs: number }>(at + 'count?' + query(about))).jobs; return [1, `${count(n)} open messages rest until somebody resumes them.`] }} act={act('pause', about, () => 'It is paused.')} />}
      {dead
        ? <><Sure word="Have them wait again" count={counted('wait again, as new ones')} act={act('retry', { ...selection, all: whole }, n => `${count(n)} wait again.`)} /><Sure bad word="Remove" count={counted('are removed for good')} act={act('drop', { ...selection, all: whole }, n => `${count(n)} are gone.`)} /></>
        : <><Sure word="Drain" count={counted('are made dead, and kept')} act={act('order', { kind: 'drain', ...selection, all: whole }, n => `${count(n)} are dead.`)} /><Sure bad word="Remove" count={counted('are removed for good')} act={act('order', { kind: 'drop', ...selection, all: whole }, n => `${count(n)} are gone.`)} /></>}
    </div>}
    {wrong && <p class="bad" role="alert">{wrong}</p>}
    {shown && <One name={name} id={shown} dead={dead} />}
    {page && page.jobs.length === 0 && <div class="panel"><p class="empty">{dead ? 'No message is dead here.' : 'No message waits here.'} {dead ? '' : <Link page="/live">Listen to what passes.</Link>}</p></div>}
    {page && page.jobs.length > 0 && <div class="panel scroll" tabIndex={0} role="region" aria-label="Messages"><table>
      <thead><tr><th>Message</th><th>Due</th><th class="n">Failed attempts</th><th>Whose</th><th>{dead ? 'Died' : 'Came'}</th><th class="n">Size</th><th>Last error</th></tr></thead>
      <tbody>{page.jobs.map(j => <tr class={j.id === shown ? 'chosen' : undefined}><td><button class="link" onClick={() => show(j.id)}>{j.id}</button></td><td><Due j={j} /></td><td class={j.attempts ? 'n bad' : 'n'}>{count(j.attempts ?? 0)}</td><td>{whose(j)}</td><td><Moment at={j.at} /></td><td class="n">{bytes(j.bytes ?? 0)}</td><td class="wide">{j.cause}</td></tr>)}</tbody>
    </table></div>}
    {page?.next && <div class="bar"><button onClick={() => void load(page.next)}>More</button></div>}
    {now.value && !q && <p class="soft">The config that runs has no queue of this name.</p>}
  </>
}
