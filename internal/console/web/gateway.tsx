import { useEffect, useRef, useState } from 'preact/hooks'
import { ask, may, query, readable } from './api'
import { Followed } from './message'
import { graph, now } from './now'
import { Copied, Facts } from './parts'
import { count, Link, Moment, rate, Since, State, to } from './show'

type Refusal = { code: number; answer: string; requests: number }
type Counts = { requests: number; events: number; left_out?: number; taken?: string; denied?: string; refused: Refusal[] }
type Source = Counts & { id: string; name: string; workspace: string; kind: string; webhook?: boolean; enabled: boolean; key: string; destinations: number }
type Gateway = { pipeline: string; address: string; hosts: string[]; tls: boolean; known: number; sources: Source[]; unknown: Counts; inside: Counts }
type Answer = { gateways: Gateway[]; next?: string }
type Sent = { message_id: string; event: unknown; code: number; answer: string; seconds: number }

const empty = `pipeline "collect" {
  source {
    use "gateway" {
      workspace_config = "workspaceConfig.json"
    }
  }
  target {
    use "stdout" {}
  }
}`

/** Where clients reach a gateway, as far as that can be seen from here. */
function address(g: Gateway) {
  const at = g.address.lastIndexOf(':'), host = g.address.slice(0, at), port = g.address.slice(at + 1)
  const name = g.hosts[0] ?? (['0.0.0.0', '[::]', ''].includes(host) ? location.hostname : host)
  return `${g.tls ? 'https' : 'http'}://${name}${port === (g.tls ? '443' : '80') ? '' : ':' + port}`
}

const text = (s: string) => JSON.stringify(s)
const shell = (s: string) => `'${s.replaceAll("'", `'\\''`)}'`
const snippets: Record<string, (at: string, s: Source) => string> = {
  'Browser': (at, s) => `// npm install @rudderstack/analytics-js
import { RudderAnalytics } from "@rudderstack/analytics-js";

const analytics = new RudderAnalytics();
analytics.load(${text(s.key)}, ${text(at)}, { configUrl: ${text(at)} });
analytics.track("Order Completed", { total: 12.5 });`,
  'Node': (at, s) => `// npm install @rudderstack/rudder-sdk-node
import RudderAnalytics from "@rudderstack/rudder-sdk-node";

const analytics = new RudderAnalytics(${text(s.key)}, { dataPlaneUrl: ${text(at)} });
analytics.track({ userId: "u1", event: "Order Completed", properties: { total: 12.5 } });`,
  'curl': (at, s) => s.webhook
    ? `curl ${shell(`${at}/v1/webhook?writeKey=${encodeURIComponent(s.key)}`)} \\
  -H 'Content-Type: application/json' \\
  -d '{"order":1}'`
    : `curl ${shell(at + '/v1/track')} \\
  -u ${shell(s.key + ':')} \\
  -H 'Content-Type: application/json' \\
  -d '{"userId":"u1","event":"Order Completed","properties":{"total":12.5}}'`,
}

function Refusals({ of, name }: { of: Counts; name: string }) {
  if (of.refused.length === 0) return null
  return <div class="panel scroll" tabIndex={0} role="region" aria-label={name}><table class="fit">
    <thead><tr><th class="n">Requests</th><th class="n">Status</th><th>Answer, as the client gets it</th></tr></thead>
    <tbody>{of.refused.map(r => <tr><td class="n">{count(r.requests)}</td><td class="n">{r.code || ''}</td><td class="wide">{r.answer ? <code>{r.answer}</code> : 'what the script of the webhook source says'}</td></tr>)}</tbody>
  </table></div>
}

function Snippet({ g, s }: { g: Gateway; s: Source }) {
  const [kind, choose] = useState(s.webhook ? 'curl' : 'Browser'), [at, set] = useState(address(g))
  const kinds = s.webhook ? ['curl'] : Object.keys(snippets)
  const shown = snippets[kind]!(at, s)
  return <>
    <h3>Send from your own code</h3>
    <div class="bar search">
      <label>Address that clients reach <input class="address" value={at} onInput={e => set(e.currentTarget.value.trim())} spellcheck={false} autocomplete="off" /></label>
      <span class="choice" role="group" aria-label="Language">{kinds.map(k => <button type="button" aria-pressed={k === kind} onClick={() => choose(k)}>{k}</button>)}</span>
      <Copied of={shown} />
    </div>
    {!may('payloads') && <p class="soft why">The write key is cut: who sees it whole needs the right “payloads”.</p>}
    <pre class="lines" tabIndex={0} role="region" aria-label={'Snippet for ' + kind}>{shown}</pre>
  </>
}

function Trial({ g, s }: { g: Gateway; s: Source }) {
  const [sent, set] = useState<Sent | null>(null), [wrong, tell] = useState(''), [busy, work] = useState(false)
  if (s.webhook) return null
  const send = () => {
    work(true); tell(''); set(null)
    ask<Sent>('v1/gateways/trial', { pipeline: g.pipeline, source: s.id }).then(set, (e: Error) => tell(e.message)).finally(() => work(false))
  }
  return <>
    <h3>Send a test event</h3>
    {may('operate')
      ? <div class="bar"><button class="main" disabled={busy || !g.address} onClick={send}>{busy ? 'Sending' : 'Send a test event'}</button><span class="soft">A real event “Weir Test”: it goes by the gateway’s address to all destinations of this source.</span></div>
      : <p class="soft why">It is a real event, and who sends one needs the right “operate”.</p>}
    {wrong && <p class="bad why" role="alert">{wrong}</p>}
    {sent && <div class="result" role="status">
      <p><State of={sent.code < 400 ? 'running' : 'degraded'} word={sent.code < 400 ? 'taken' : 'refused'} /> The gateway answered <code>{sent.code} {sent.answer}</code> in {Math.round(sent.seconds * 1000)} ms.</p>
      <details><summary>The event</summary><pre class="lines" tabIndex={0} role="region" aria-label="Test event">{readable(JSON.stringify(sent.event))}</pre></details>
      {sent.code < 400 && <Followed id={sent.message_id} />}
    </div>}
  </>
}

function One({ g, s, close }: { g: Gateway; s: Source; close: () => void }) {
  return <section class="panel one" aria-label={'Source ' + s.name}>
    <div class="bar"><h2>{s.name || s.id}</h2><span class="grow" /><button onClick={close}>Close</button></div>
    <Facts of={[['source', s.id], ['workspace', s.workspace], ['kind', s.kind], ['write key', <code>{s.key || '(none)'}</code>], ['destinations', count(s.destinations)], ['events', count(s.events)], ['requests taken', count(s.requests)],
      ['of suppressed users', s.left_out ? count(s.left_out) : ''], ['last event', s.taken ? <Moment at={s.taken} /> : 'none yet'], ['last refusal', s.denied ? <Moment at={s.denied} /> : '']]} />
    <p class="why"><a href={to('/live') + '?' + query({ pipeline: g.pipeline, point: 'source', when: `source == '${s.id}'` })}>Listen to its events</a> · <a href={to('/failures') + '?' + query({ source: s.id })}>What of them has failed</a></p>
    {s.destinations === 0 && <p class="why"><State of="waiting" word="It is connected to no destination that is switched on." /></p>}
    {s.refused.length > 0 && <><h3>Refused</h3><Refusals of={s} name={'Requests of ' + s.name + ' that were refused'} /></>}
    <Snippet key={s.id + s.key} g={g} s={s} />
    <Trial key={s.id} g={g} s={s} />
  </section>
}

const denied = (c: Counts) => c.refused.reduce((n, r) => n + r.requests, 0)

function stateOf(s: Source, at: string) {
  if (!s.enabled) return <State of="waiting" word="switched off" />
  if (s.denied && Date.parse(at) - Date.parse(s.denied) < 60000) return <State of="waiting" word="refuses" />
  if (!s.taken) return <State of="idle" word="nothing yet" />
  return Date.parse(at) - Date.parse(s.taken) < 60000 ? <State of="running" word="takes events" /> : <State of="idle" word="quiet" />
}

function Table({ g, one, rates, choose }: { g: Gateway; one: string; rates: Map<string, number>; choose: (pipeline: string, source: string) => void }) {
  const at = now.value!.at
  return <div class="panel scroll" tabIndex={0} role="region" aria-label={'Sources of ' + g.pipeline}><table>
    <thead><tr><th>Source</th><th>State</th><th class="n">Rate</th><th class="n">Events</th><th class="n">Refused</th><th>Last event</th><th>Workspace</th><th>Kind</th><th>Write key</th></tr></thead>
    <tbody>{g.sources.map(s => <tr key={s.id} class={s.id === one ? 'chosen' : undefined}>
      <td><button class="link" aria-pressed={s.id === one} onClick={() => choose(g.pipeline, s.id)}>{s.name || s.id}</button></td><td>{stateOf(s, at)}</td>
      <td class="n">{rates.has(g.pipeline + '/' + s.id) ? rate(rates.get(g.pipeline + '/' + s.id)!) : ''}</td><td class="n">{count(s.events)}</td><td class={denied(s) ? 'n bad' : 'n'}>{count(denied(s))}</td>
      <td>{s.taken ? <Since at={s.taken} now={at} ago /> : ''}</td><td>{s.workspace}</td><td>{s.kind}</td><td><code>{s.key.length > 14 ? s.key.slice(0, 12) + '…' : s.key}</code></td>
    </tr>)}</tbody>
  </table></div>
}

const every = 2000

/** Who may send events, what became of their requests, and how one begins to send. */
export function Gateways() {
  const address = new URLSearchParams(location.search)
  const [all, set] = useState<Answer | null>(null), [wrong, tell] = useState(''), [text, search] = useState(address.get('text') ?? ''), [refused, only] = useState(address.get('refused') === 'true')
  const [one, choose] = useState({ pipeline: address.get('pipeline') ?? '', source: address.get('source') ?? '' }), [opened, open] = useState<Gateway | null>(null), [rates, measure] = useState(new Map<string, number>()), [pages, more] = useState<string[]>([''])
  const before = useRef<{ at: number; events: Map<string, number> } | null>(null)
  useEffect(() => {
    if (!graph.value) return
    let over = false
    const load = async () => {
      if (document.hidden) return
      try {
        const got: Answer = { gateways: [] }
        for (const after of pages) {
          const page = await ask<Answer>('v1/gateways?' + query({ text, refused: refused ? 'true' : undefined, after: after || undefined }))
          for (const g of page.gateways) {
            const same = got.gateways.find(x => x.pipeline === g.pipeline)
            if (same) same.sources.push(...g.sources); else got.gateways.push(g)
          }
          got.next = page.next
        }
        const chosen = one.source ? (await ask<Answer>('v1/gateways?' + query({ pipeline: one.pipeline, source: one.source }))).gateways[0] ?? null : null
        if (over) return
        const at = performance.now(), events = new Map<string, number>(), fresh = new Map<string, number>()
        for (const g of got.gateways) for (const s of g.sources) {
          const key = g.pipeline + '/' + s.id, was = before.current?.events.get(key)
          events.set(key, s.events)
          if (was !== undefined && s.events >= was) fresh.set(key, (s.events - was) / ((at - before.current!.at) / 1000))
        }
        before.current = { at, events }
        set(got); measure(fresh); open(chosen); tell('')
      } catch (e) { if (!over) tell((e as Error).message) }
    }
    void load()
    const timer = setInterval(() => void load(), every)
    return () => { over = true; clearInterval(timer) }
  }, [text, refused, one.pipeline, one.source, pages, graph.value])
  useEffect(() => { const q = query({ ...one, text, refused: refused ? 'true' : undefined }); history.replaceState(null, '', location.pathname + (q ? '?' + q : '')) }, [one, text, refused])
  const source = opened?.sources[0]
  const filtered = text !== '' || refused
  const known = all?.gateways.reduce((n, g) => n + g.known, 0) ?? 0
  return <>
    <h1>Gateway</h1>
    {wrong && <p class="bad" role="alert">{wrong}</p>}
    {!all && !wrong && <p class="empty">The gateways are being asked.</p>}
    {all && all.gateways.length === 0 && !filtered && <div class="panel"><p class="empty">No pipeline of this config takes events by write keys. This one does, from the SDKs of RudderStack and by plain HTTP:</p><pre>{empty}</pre></div>}
    {all && known > 0 && (known > 10 || filtered) && <form class="bar search" role="search" onSubmit={e => e.preventDefault()}>
      <label>Source or workspace has <input value={text} onInput={e => { search(e.currentTarget.value); more(['']) }} autocomplete="off" /></label>
      <label class="tick"><input type="checkbox" checked={refused} onChange={e => { only(e.currentTarget.checked); more(['']) }} /> with requests that were refused</label>
    </form>}
    {source && opened && <One g={opened} s={source} close={() => choose({ pipeline: '', source: '' })} />}
    {all?.gateways.map(g => <section aria-label={'Gateway ' + g.pipeline}>
      <h2><Link page={'/p/' + g.pipeline}>{g.pipeline}</Link> <span class="soft light">{g.address ? `listens on ${g.address}` : 'does not listen yet'}{g.hosts.length ? `, for ${g.hosts.join(', ')}` : ''}{g.tls ? ', with TLS' : ''}</span></h2>
      {g.sources.length ? <Table g={g} one={one.source} rates={rates} choose={(pipeline, source) => choose({ pipeline, source })} />
        : <div class="panel"><p class="empty">{filtered ? 'No source of it is chosen.' : g.known ? 'Its sources are on another page.' : 'It knows no source, so it refuses every event: a workspace configuration names sources and their write keys.'}</p></div>}
      {(g.unknown.requests > 0 || g.unknown.refused.length > 0) && <><h3>Requests without the write key of a source</h3><Refusals of={g.unknown} name="Requests of which no source is known" /></>}
      {(g.inside.requests > 0 || g.inside.refused.length > 0) && <><h3>Requests of ingestion services: {count(g.inside.requests)} taken, with {count(g.inside.events)} events</h3><Refusals of={g.inside} name="Requests of ingestion services that were refused" /></>}
    </section>)}
    {all?.next && <div class="bar"><button onClick={() => more([...pages, all.next!])}>More</button></div>}
    {all && all.gateways.length > 0 && <p class="soft">Counted since the process began, over reloads.</p>}
  </>
}
