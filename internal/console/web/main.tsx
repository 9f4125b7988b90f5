import { render } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { effect } from '@preact/signals'
import { who } from './api'
import { connect, history as rates, link, missed, now, type Pipeline } from './now'
import { bytes, count, Link, place, rate, Since, span, State, to } from './show'
import { Drawing } from './drawing'
import { Failures } from './failures'
import { OneQueue } from './queue'
import { Live } from './live'
import { Config } from './config'
import { Lake } from './lake'
import { Gateways } from './gateway'
import { Machines, OneMachine } from './machines'
import { Message } from './message'

const empty = `source {
  use "http" {}
}
target {
  use "stdout" {}
}`

function Needs() {
  const n = now.value!
  if (n.needs.length === 0) return <div class="panel"><p class="empty"><State of="ready" word="Nothing needs you." /></p></div>
  return <div class="panel"><ul class="needs">{n.needs.map(x => <li>
    <Link page={x.page}>{x.what}</Link>
    {x.since && <span class="since"><Since at={x.since} now={n.at} /></span>}
    <span class="do">{x.do}</span>
  </li>)}</ul></div>
}

function delivered(p: Pipeline) { return p.sinks.filter(s => s.role.startsWith('target')).reduce((sum, s) => sum + s.rate, 0) }

function Pipelines() {
  const ps = now.value!.pipelines
  if (ps.length === 0) return <div class="panel"><p class="empty">No pipeline runs. This one takes events by HTTP and prints them:</p><pre>{empty}</pre></div>
  return <div class="panel scroll" tabIndex={0} role="region" aria-label="Pipelines"><table>
    <thead><tr><th>Pipeline</th><th>State</th><th class="n">Reads</th><th class="n">Delivers</th><th class="n">In flight</th><th class="n">Oldest</th><th class="n">Behind</th><th class="n">Filtered</th><th class="n">Failed</th><th class="n">Retries</th></tr></thead>
    <tbody>{ps.map(p => <tr key={p.name}>
      <td><Link page={'/p/' + p.name}>{p.name}</Link></td><td><State of={p.state} /></td>
      <td class="n">{rate(p.read_rate)}</td><td class="n">{rate(delivered(p))}</td><td class="n">{count(p.in_flight)}</td>
      <td class="n">{p.in_flight ? span(p.oldest) : ''}</td><td class="n">{p.behind >= 0 ? count(p.behind) : p.behind_age >= 0 ? span(p.behind_age) : ''}</td>
      <td class="n">{count(p.filtered)}</td><td class={p.invalid ? 'n bad' : 'n'}>{count(p.invalid)}</td><td class="n">{count(p.sinks.reduce((s, x) => s + x.retries, 0))}</td>
    </tr>)}</tbody>
  </table></div>
}

function Overview() {
  return <>
    <h1>Overview</h1>
    <h2>What needs you</h2><Needs />
    <h2>Pipelines and queues</h2><div class="panel"><Drawing /></div>
    <h2>In figures</h2><Pipelines />
  </>
}

function Spark({ of }: { of: number[] }) {
  if (of.length < 2) return <p class="empty">The rate of reading is drawn here while the page is open.</p>
  const top = Math.max(...of, 1)
  const d = of.map((v, i) => `${i ? 'L' : 'M'}${(i / (of.length - 1) * 600).toFixed(1)} ${(60 - v / top * 56).toFixed(1)}`).join('')
  return <svg class="spark" viewBox="0 0 600 64" preserveAspectRatio="none" role="img" aria-label={`Rate of reading over the last ${of.length} seconds, ${rate(top)} at most`}><path d={d} /></svg>
}

function OnePipeline({ name }: { name: string }) {
  const n = now.value!, p = n.pipelines.find(p => p.name === name)
  if (!p) return <><h1>{name}</h1><div class="panel"><p class="empty">No pipeline of this name runs. <Link page="/">See all of them.</Link></p></div></>
  const facts: [string, string][] = [
    ['reads', rate(p.read_rate)], ['read', count(p.read)], ['filtered', count(p.filtered)], ['failed', count(p.invalid)],
    ['in flight', count(p.in_flight)], ['oldest of these', p.in_flight ? span(p.oldest) : 'none'], ['behind', p.behind >= 0 ? count(p.behind) : 'not known'], ['restarts', count(p.restarts)],
  ]
  return <>
    <h1>{p.name}</h1>
    <p><State of={p.state} /> {p.since && <Since at={p.since} now={n.at} />}</p>
    <div class="panel"><dl class="facts">{facts.map(([k, v]) => <div><dt>{k}</dt><dd>{v}</dd></div>)}</dl><Spark of={rates.get(p.name) ?? []} /></div>
    <p><a href={to('/live') + '?pipeline=' + encodeURIComponent(p.name)}>Listen to it</a> · <a href={to('/failures') + '?pipeline=' + encodeURIComponent(p.name)}>What has failed in it</a></p>
    <h2>Targets</h2>
    <div class="panel scroll" tabIndex={0} role="region" aria-label="Targets"><table>
      <thead><tr><th>Target</th><th>State</th><th class="n">Rate</th><th class="n">Written</th><th class="n">Failed attempts</th><th class="n">Retries</th></tr></thead>
      <tbody>{p.sinks.map(s => <tr key={s.role}><td>{s.role}</td>
        <td>{s.failing ? <><State of="waiting" word={s.destinations ? `${count(s.destinations)} destinations take nothing` : 'takes nothing'} /> <Since at={s.failing} now={n.at} /></> : s.written ? <State of="running" word="takes what it gets" /> : <State of="idle" word="has got nothing" />}</td>
        <td class="n">{rate(s.rate)}</td><td class="n">{count(s.written)}</td><td class="n">{count(s.failures)}</td><td class="n">{count(s.retries)}</td></tr>)}</tbody>
    </table></div>
  </>
}

type Counts = { waiting: number; leased: number; retrying: number; dead: number; bytes: number }
type By = { queues: ({ name: string; values?: ({ value: string } & Counts)[] } & Counts)[] }

function Queues() {
  const n = now.value!, [by, choose] = useState(''), [values, set] = useState<By | null>(null)
  useEffect(() => {
    if (!by) { set(null); return }
    let over = false
    const ask = () => fetch('v1/queues?by=' + by).then(async r => { if (r.ok && !over) set(await r.json() as By) }, () => {})
    void ask()
    const t = setInterval(ask, 5000)
    return () => { over = true; clearInterval(t) }
  }, [by])
  if (n.queues.length === 0) return <><h1>Queues</h1><div class="panel"><p class="empty">This config has no queue. Work that should wait, and be tried again for hours, goes through one:</p><pre>{'queue "events" {}'}</pre></div></>
  return <>
    <h1>Queues</h1>
    <div class="bar"><label for="by">Divided by</label><select id="by" value={by} onChange={e => choose(e.currentTarget.value)}><option value="">nothing</option><option>workspace</option><option>source</option><option>destination</option></select></div>
    <div class="panel scroll" tabIndex={0} role="region" aria-label="Queues"><table>
      <thead><tr><th>Queue</th><th>State</th><th class="n">Waiting</th><th class="n">In work</th><th class="n">To be retried</th><th class="n">Dead</th><th class="n">Growth</th><th class="n">On disk</th></tr></thead>
      <tbody>{n.queues.map(q => <>
        <tr key={q.name}><td><Link page={'/q/' + q.name}>{q.name}</Link></td><td>{q.paused ? <State of="waiting" word="paused" /> : q.growth > 0.5 ? <State of="waiting" word="growing" /> : <State of={q.waiting + q.leased ? 'running' : 'idle'} word={q.waiting + q.leased ? 'in work' : 'empty'} />}</td>
          <td class="n">{count(q.waiting)}</td><td class="n">{count(q.leased)}</td><td class="n">{count(q.retrying)}</td><td class={q.dead ? 'n bad' : 'n'}>{count(q.dead)}</td><td class="n">{(q.growth > 0 ? '+' : '') + (Math.abs(q.growth) < 0.05 ? '0' : q.growth.toFixed(1)) + '/s'}</td><td class="n">{bytes(q.bytes)}</td></tr>
        {by && (values?.queues.find(x => x.name === q.name)?.values ?? []).map(v => <tr key={q.name + v.value}><td class="soft">&nbsp;&nbsp;{v.value || '(none)'}</td><td /><td class="n">{count(v.waiting)}</td><td class="n">{count(v.leased)}</td><td class="n">{count(v.retrying)}</td><td class={v.dead ? 'n bad' : 'n'}>{count(v.dead)}</td><td /><td class="n">{bytes(v.bytes)}</td></tr>)}
      </>)}</tbody>
    </table></div>
  </>
}

function Sign() {
  const [wrong, tell] = useState('')
  return <form class="panel sign" onSubmit={async e => {
    e.preventDefault()
    const token = new FormData(e.currentTarget).get('token')
    const r = await fetch('v1/session', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ token }) })
    if (r.ok) { link.value = 'asked'; connect() } else tell((await r.json() as { detail: string }).detail)
  }}>
    <label for="token">Token of the admin block, or one of yours</label>
    <input id="token" name="token" type="password" autocomplete="current-password" required />
    {wrong && <p class="bad" role="alert">{wrong}</p>}
    <button>Go on</button>
  </form>
}

function Page() {
  const at = place.value
  if (at.startsWith('/p/')) return <OnePipeline name={at.slice(3)} />
  if (at.startsWith('/q/')) return <OneQueue key={at} name={at.slice(3)} />
  if (at === '/queues') return <Queues />
  if (at === '/failures') return <Failures />
  if (at === '/live') return <Live />
  if (at === '/lake') return <Lake />
  if (at === '/config') return <Config />
  if (at === '/gateway') return <Gateways />
  if (at === '/machines') return <Machines />
  if (at.startsWith('/machines/')) return <OneMachine key={at} name={at.slice(10)} />
  if (at === '/m' || at.startsWith('/m/')) return <Message key={at} id={at.slice(3)} />
  return <Overview />
}

function App() {
  const n = now.value, at = place.value
  const tab = (page: string, word: string) => <Link page={page} aria-current={at === page || page.length > 1 && at.startsWith(page + '/') ? 'page' : undefined}>{word}</Link>
  return <>
    <a class="skip" href={location.pathname + '#content'}>To the content</a>
    <header>
      <Link page="/" class="name">Weir</Link>
      <nav aria-label="Pages">{tab('/', 'Overview')}{tab('/gateway', 'Gateway')}{tab('/queues', 'Queues')}{tab('/machines', 'Machines')}{tab('/failures', 'Failures')}{tab('/m', 'Message')}{tab('/live', 'Live')}{tab('/lake', 'Lake')}{tab('/config', 'Config')}</nav>
      <span class="grow" />
      {who.value && who.value.name !== 'anybody' && <span class="small">{who.value.name} may {who.value.right === 'payloads' ? 'see payloads' : who.value.right}</span>}
      {n && <span class="small" title={n.store ? 'store ' + n.store : undefined}>version {n.version}{n.store ? ', store ' + n.store : ''}</span>}
      {link.value === 'lost' ? <State of="lost" word="lost, trying" /> : n ? n.unready ? <State of="unready" word="not ready" /> : <State of="ready" /> : null}
    </header>
    {link.value === 'lost' && n && <div class="lostbar" role="alert">Weir does not answer. What is shown is from {new Date(n.at).toLocaleTimeString()}; it is tried again.</div>}
    <main id="content" tabIndex={-1}>
      {link.value === 'refused' ? <Sign /> : n ? <Page /> : <p class="empty">Weir is being asked how things are.</p>}
      {missed.value > 0 && <p class="soft">This page was too slow for {count(missed.value)} frames.</p>}
    </main>
  </>
}

effect(() => {
  const n = now.value
  const trouble = link.value === 'lost' ? 'lost' : n?.unready ? 'not ready' : n?.needs.length ? `${n.needs.length} to look at` : ''
  document.title = trouble ? `(${trouble}) Weir` : 'Weir'
})
connect()
const root = document.getElementById('app')!
root.textContent = ''
render(<App />, root)
