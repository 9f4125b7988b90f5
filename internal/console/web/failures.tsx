import { useEffect, useState } from 'preact/hooks'
import { ask, may, query, type Payload } from './api'
import { Facts, headers, Held, Moment, Shown, Sure, whose, type Rehearsal } from './parts'
import { now } from './now'
import { bytes, count, Link } from './show'

type Line = { ref: string; id: string; cause: string; where: string; pipeline?: string; machine?: string; workspace?: string; source?: string; destination?: string; message_id?: string; time?: string; died?: string; attempts?: number; dead?: boolean; replayed?: boolean; size: number }
type Whole = Line & { kind: string; errors: string[]; refusal?: string; whole: boolean; as_read: boolean; hidden?: boolean; payload?: Payload; latest?: Payload; key?: string; headers?: unknown }
type Causes = { causes: { cause: string; count: number; newest?: string; where: string[]; sample: string }[]; total: number; incomplete?: boolean }
type List = { failures: Line[]; next?: string }
type Replayed = { dead: number; rows: number; commands?: string[] }
type Chosen = Record<string, string>

const fields: [string, string][] = [['cause', 'Cause has'], ['text', 'Payload has'], ['pipeline', 'Pipeline'], ['workspace', 'Workspace'], ['source', 'Source'], ['destination', 'Destination']]

function inAddress(): Chosen { return Object.fromEntries(new URLSearchParams(location.search)) }
function toAddress(q: Chosen) { const s = query(q); history.replaceState(null, '', location.pathname + (s ? '?' + s : '')) }

function Search({ q, choose }: { q: Chosen; choose: (q: Chosen) => void }) {
  return <form class="bar search" role="search" onSubmit={e => {
    e.preventDefault()
    choose(Object.fromEntries([...new FormData(e.currentTarget)].map(([k, v]) => [k, String(v)])))
  }}>
    {fields.filter(([k]) => k !== 'text' || may('payloads')).map(([k, label]) => <label>{label}
      {k === 'pipeline'
        ? <select name={k} value={q[k] ?? ''}><option value="">any</option>{(now.value?.pipelines ?? []).map(p => <option selected={q[k] === p.name}>{p.name}</option>)}</select>
        : <input name={k} value={q[k] ?? ''} autocomplete="off" />}</label>)}
    <button class="main">Search</button>
  </form>
}

function One({ id, close }: { id: string; close: () => void }) {
  const [f, set] = useState<Whole | null>(null), [wrong, tell] = useState(''), [calls, let_] = useState(false)
  const [result, show] = useState<Rehearsal | null>(null), [busy, work] = useState(false)
  useEffect(() => { set(null); show(null); tell(''); ask<Whole>('v1/failures/' + id).then(set, (e: Error) => tell(e.message)) }, [id])
  const again = async () => {
    work(true); tell('')
    try { show(await ask<Rehearsal>('v1/rehearse', { ref: id, calls })) } catch (e) { show(null); tell((e as Error).message) }
    work(false)
  }
  return <section class="panel one" aria-label="One failure">
    <div class="bar"><h2>One failure</h2><span class="grow" /><button onClick={close}>Close</button></div>
    {wrong && <p class="bad why" role="alert">{wrong}</p>}
    {f && <>
      {f.errors.map(e => <p class="cause">{e}</p>)}
      {f.refusal && f.refusal !== f.cause && <p class="cause">{f.refusal}</p>}
      <Facts of={[['where', f.where], ['pipeline', f.pipeline], ['machine', f.machine], ['workspace', f.workspace], ['source', f.source], ['destination', f.destination], ['message', f.message_id && <Link page={'/m/' + f.message_id}>{f.message_id}</Link>],
        ['read', f.time && <Moment at={f.time} />], ['died', f.died && <Moment at={f.died} />], ['attempts', f.attempts ? count(f.attempts) : ''], ['kind', f.kind.replaceAll('_', ' ')], ['size', bytes(f.size)], ['key', f.key], ['headers', headers(f.headers)], ['id', f.id]]} />
      <Held name={f.as_read ? 'Payload as it was read' : 'Payload as the transforms left it'} of={f.payload} hidden={f.hidden} />
      {!f.whole && <p class="bad why">The payload was cut, and cannot be sent again.</p>}
      {f.latest !== undefined && <Held name="As the transforms left it" of={f.latest} />}
      {may('payloads') && f.whole && !f.machine && <div class="bar">
        <button class="main" disabled={busy} onClick={() => void again()}>Run again through today’s config without writing</button>
        {may('operate') && <label class="tick"><input type="checkbox" checked={calls} onChange={e => let_(e.currentTarget.checked)} /> transforms may ask others</label>}
      </div>}
      {result && <Shown result={result} />}
    </>}
  </section>
}

const plural = (n: number, one: string, more: string) => n === 1 ? '1 ' + one : count(n) + ' ' + more

export function Failures() {
  const [q, choose] = useState<Chosen>(inAddress), [causes, group] = useState<Causes | null>(null), [list, set] = useState<List | null>(null)
  const [wrong, tell] = useState(''), [more, work] = useState(false)
  const { ref, ...filter } = q, chosen = query(filter)
  const load = () => {
    tell('')
    Promise.all([ask<Causes>('v1/failures/causes?' + chosen).then(group), ask<List>('v1/failures?' + chosen).then(set)]).catch((e: Error) => tell(e.message))
  }
  useEffect(load, [chosen])
  useEffect(() => toAddress(q), [q])
  const filtered = chosen !== ''
  const replay = (dry: boolean) => ask<Replayed>('v1/failures/replay', { ...filter, ref: undefined, dry_run: dry, all: !filtered })
  return <>
    <h1>Failures</h1>
    <Search q={q} choose={q => choose(q)} />
    {wrong && <p class="bad" role="alert">{wrong}</p>}
    {causes && causes.total === 0 && <div class="panel"><p class="empty">{filtered ? 'Nothing that has failed is chosen.' : 'Nothing has failed, and nothing is dead. What fails is kept where its pipeline says, or dead in the queue that it came from:'}</p>{!filtered && <pre>{`failure_target {\n  use "file" {\n    path = "failed.jsonl"\n  }\n}`}</pre>}</div>}
    {causes && causes.total > 0 && <>
      <h2>{plural(causes.total, 'failure', 'failures')} by cause{causes.incomplete ? ', and more than could be looked at' : ''}</h2>
      <div class="panel scroll" tabIndex={0} role="region" aria-label="Causes"><table>
        <thead><tr><th class="n">Count</th><th>Cause</th><th>Where</th><th>Newest</th></tr></thead>
        <tbody>{causes.causes.slice(0, 50).map(c => <tr><td class="n">{count(c.count)}</td><td class="wide"><button class="link" title="Choose these" onClick={() => choose({ ...filter, cause: c.cause.replace(/…$/, '') })}>{c.cause || '(no cause)'}</button></td><td>{c.where.join(', ')}</td><td>{c.newest && <Moment at={c.newest} />}</td></tr>)}</tbody>
      </table></div>
      {may('operate') && <div class="bar">
        <Sure word="Send again" count={async () => {
          const r = await replay(true)
          const rows = r.rows ? ` ${plural(r.rows, 'failure is', 'failures are')} elsewhere: ${(r.commands ?? []).join(' ; ')}` : ''
          return [r.dead, `${plural(r.dead, 'dead message', 'dead messages')} would wait in the queue again.${rows}`]
        }} act={async () => { const r = await replay(false); load(); return `${plural(r.dead, 'message waits', 'messages wait')} again.` }} />
      </div>}
    </>}
    {ref && <One id={ref} close={() => choose(filter)} />}
    {list && list.failures.length > 0 && <>
      <h2>One by one</h2>
      <div class="panel scroll" tabIndex={0} role="region" aria-label="Failures"><table>
        <thead><tr><th>Read</th><th>Cause</th><th>Pipeline</th><th>Whose</th><th>Where</th><th class="n">Size</th></tr></thead>
        <tbody>{list.failures.map(f => <tr class={f.ref === ref ? 'chosen' : undefined}><td>{f.time && <Moment at={f.time} />}</td><td class="wide"><button class="link" onClick={() => choose({ ...q, ref: f.ref })}>{f.cause || '(no cause)'}</button></td><td>{f.machine ? 'machine ' + f.machine : f.pipeline}</td><td>{whose(f)}</td><td>{f.where}{f.replayed ? ', replayed' : ''}</td><td class="n">{bytes(f.size)}</td></tr>)}</tbody>
      </table></div>
      {list.next && <div class="bar"><button disabled={more} onClick={() => {
        work(true)
        ask<List>('v1/failures?' + query({ ...filter, after: list.next })).then(l => { set({ failures: [...list.failures, ...l.failures], next: l.next }) }, (e: Error) => tell(e.message)).finally(() => work(false))
      }}>More</button></div>}
    </>}
  </>
}
