import { useEffect, useRef, useState } from 'preact/hooks'
import { ask, may, query } from './api'
import { Facts, headers, Outcome, Record, Shown, text, whose, type Rec, type Rehearsal } from './parts'
import { bytes, count, Link, State } from './show'

type Points = { pipelines: { name: string; points: { point: string; label: string }[] }[] }
const kept = 200

function Entry({ r }: { r: Rec & { n: number } }) {
  const [open, set] = useState(false), [result, show] = useState<Rehearsal | null>(null), [wrong, tell] = useState('')
  const first = r.point === 'source' || r.point === 'transform.0'
  return <li class="entry">
    <button class="link row" aria-expanded={open} onClick={() => set(!open)}>
      <span class="when">{new Date(r.at).toLocaleTimeString()}</span> <b>{r.step ?? r.point}</b> <Outcome of={r.outcome} /> <span class="soft">{whose(r)} {bytes(r.before.bytes)}</span> <span class="preview">{text(r.before.data).slice(0, 160)}</span>
    </button>
    {open && <div class="body">
      <Facts of={[['message', r.id && <Link page={'/m/' + r.id}>{r.id}</Link>], ['trace', r.trace], ['key', r.before.key], ['headers', headers(r.before.headers)]]} />
      <Record r={r} />
      {first && !r.before.cut && !r.before.deleted && <button onClick={() => {
        tell('')
        ask<Rehearsal>('v1/rehearse', { pipeline: r.pipeline, message: { data: r.before.data, key: r.before.key, headers: r.before.headers, workspace: r.workspace, source: r.source, destination: r.destination, id: r.id } }).then(show, (e: Error) => tell(e.message))
      }}>Try it without writing, for a test case</button>}
      {!first && <p class="soft">Listen at the source to save a test case.</p>}
      {wrong && <p class="bad" role="alert">{wrong}</p>}
      {result && <Shown result={result} />}
    </div>}
  </li>
}

export function Live() {
  const address = new URLSearchParams(location.search)
  const [points, set] = useState<Points | null>(null), [pipeline, choose] = useState(address.get('pipeline') ?? ''), [point, at] = useState(address.get('point') ?? ''), [every, thin] = useState('1'), [when, only] = useState(address.get('when') ?? '')
  const [records, put] = useState<(Rec & { n: number })[]>([]), [lost, miss] = useState(0), [state, say] = useState('off'), [why, tell] = useState(''), [held, hold] = useState(false), [back, count_] = useState(0)
  const paused = useRef(false), stream = useRef<EventSource | null>(null), number = useRef(0)
  paused.current = held
  useEffect(() => { ask<Points>('v1/pipelines').then(p => { set(p); choose(was => was || p.pipelines[0]?.name || '') }, (e: Error) => tell(e.message)) }, [])
  useEffect(() => () => stream.current?.close(), [])
  const stop = () => { stream.current?.close(); stream.current = null; say('off') }
  const start = () => {
    stop(); put([]); miss(0); count_(0); tell(''); hold(false)
    const q = query({ pipeline, point, every: every === '1' ? '' : every, when })
    history.replaceState(null, '', location.pathname + '?' + query({ pipeline, point, when }))
    const s = stream.current = new EventSource('v1/tap?' + q)
    say('asked')
    s.addEventListener('open', () => say('on'))
    s.addEventListener('message', e => {
      if (paused.current) { count_(n => n + 1); return }
      const r = { ...JSON.parse((e as MessageEvent<string>).data) as Rec, n: number.current++ }
      put(was => [r, ...was].slice(0, kept))
    })
    s.addEventListener('lost', e => { const { messages } = JSON.parse((e as MessageEvent<string>).data) as { messages: number }; miss(n => n + messages) })
    s.addEventListener('end', e => { tell((JSON.parse((e as MessageEvent<string>).data) as { why: string }).why); stop() })
    s.onerror = () => {
      if (s !== stream.current) return
      stop() // a tap is not begun again by itself: somebody looks
      ask('v1/tap?' + q + '&every=0').then(() => {}, (e: Error) => tell(e.message.includes('every is a number') ? 'The connection has ended.' : e.message))
    }
  }
  if (!may('payloads')) return <><h1>Live</h1><div class="panel"><p class="empty">Who listens sees what events hold, and needs the right “payloads”.</p></div></>
  return <>
    <h1>Live</h1>
    <form class="bar search" onSubmit={e => { e.preventDefault(); start() }}>
      <label>Pipeline <select value={pipeline} onChange={e => { choose(e.currentTarget.value); at('') }}>{points?.pipelines.map(p => <option>{p.name}</option>)}</select></label>
      <label>Point <select value={point} onChange={e => at(e.currentTarget.value)}><option value="">all of them</option>{points?.pipelines.find(p => p.name === pipeline)?.points.map(p => <option value={p.point}>{p.label}</option>)}</select></label>
      <label>One in <input class="short" type="number" min="1" value={every} onChange={e => thin(e.currentTarget.value || '1')} /></label>
      <label>Where <input value={when} onChange={e => only(e.currentTarget.value)} placeholder="destination == 'archive'" autocomplete="off" /></label>
      {state === 'off' ? <button class="main" disabled={!pipeline}>Listen</button> : <button type="button" onClick={stop}>Stop</button>}
      {state !== 'off' && <button type="button" aria-pressed={held} onClick={() => { hold(!held); count_(0) }}>{held ? 'Go on' : 'Hold'}</button>}
    </form>
    <p class="bar">{state === 'on' ? <State of="running" word={held ? `held, ${count(back)} passed meanwhile` : 'listening'} /> : <State of="idle" word={state === 'asked' ? 'asking' : 'not listening'} />}
      {lost > 0 && <State of="waiting" word={`${count(lost)} passed too fast to be shown`} />}{why && <span role="alert" class="soft">{why}</span>}</p>
    <div class="panel">{records.length ? <ul class="entries">{records.map(r => <Entry key={r.n} r={r} />)}</ul>
      : <p class="empty">Messages are shown here as they pass: at most 100 in a second, for five minutes. Nothing is held up. The same on a command line: <code>weir tap --pipeline {pipeline || 'NAME'}</code></p>}</div>
  </>
}
