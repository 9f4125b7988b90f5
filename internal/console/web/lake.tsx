import { useEffect, useState } from 'preact/hooks'
import { ask, may, query } from './api'
import { graph, now } from './now'
import { bytes, count, Moment, Since, State } from './show'

type Dataset = {
  id: string; table: string; path: string; pipeline: string; component: string; absent?: boolean; error?: string
  committed?: string; first?: string; last?: string; files: number; rows: number; bytes: number; partitions: number; schema_version: number; columns: { name: string; type: string }[]
}
type Answer = { columns: string[]; rows: (string | null)[][]; more?: boolean; cut?: boolean; seconds: number }

const empty = `target {
  use "lake" {
    path = "lake"
  }
}`

// What SQLite takes for no name without quotes.
const keywords = new Set('add all alter and as autoincrement between case check collate commit constraint create default deferrable delete distinct drop else escape exists foreign from group having in index insert into is isnull join limit not nothing notnull null on or order primary references select set table then to transaction union unique update using values when where'.split(' '))
const name = (n: string) => /^[A-Za-z_]\w*$/.test(n) && !keywords.has(n.toLowerCase()) ? n : '"' + n.replaceAll('"', '""') + '"'

function Result({ a }: { a: Answer }) {
  return <div class="result">
    <p class="soft" role="status">{count(a.rows.length)} {a.rows.length === 1 ? 'row' : 'rows'}{a.more && ', and there are more'} in {a.seconds < 1 ? Math.round(a.seconds * 1000) + ' ms' : a.seconds.toFixed(1) + ' s'}{a.cut && '; long values are cut'}</p>
    {a.rows.length > 0 && <div class="panel scroll tall" tabIndex={0} role="region" aria-label="Rows of the answer"><table>
      <thead><tr>{a.columns.map(c => <th>{c}</th>)}</tr></thead>
      <tbody>{a.rows.map(r => <tr>{r.map(v => <td class="cell">{v === null ? <i class="soft">null</i> : v}</td>)}</tr>)}</tbody>
    </table></div>}
  </div>
}

function One({ d }: { d: Dataset }) {
  const [sql, write] = useState(`SELECT * FROM ${name(d.table)} LIMIT 20`), [a, set] = useState<Answer | null>(null), [wrong, tell] = useState(''), [busy, work] = useState(false)
  const run = () => {
    work(true); tell('')
    ask<Answer>('v1/lake/query', { dataset: d.id, query: sql }).then(set, (e: Error) => { set(null); tell(e.message) }).finally(() => work(false))
  }
  return <section class="panel one" aria-label={d.table}>
    <h2>{d.table}</h2>
    <p class="soft why">{d.path}, partitions: {count(d.partitions)}, version {d.schema_version} of its schema{d.first && d.last && <>, events from <Moment at={d.first} /> to <Moment at={d.last} /></>}</p>
    {may('payloads')
      ? <form onSubmit={e => { e.preventDefault(); run() }}>
        <label for="sql">SQL of SQLite, which only reads</label>
        <textarea id="sql" rows={4} spellcheck={false} value={sql} onInput={e => write(e.currentTarget.value)} onKeyDown={e => { if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) { e.preventDefault(); run() } }} />
        <div class="bar"><button class="main" disabled={busy}>{busy ? 'Asking' : 'Ask'}</button><span class="soft">or Ctrl+Enter; at most 20 seconds and 1,000 rows. More: <code>weir lake sql</code></span></div>
      </form>
      : <p class="empty">Asking for rows needs the right “payloads”.</p>}
    {wrong && <p class="bad why" role="alert">{wrong}</p>}
    {a && <Result a={a} />}
    <h3>Columns</h3>
    <div class="panel scroll tall" tabIndex={0} role="region" aria-label="Columns"><table>
      <thead><tr><th>Column</th><th>Type</th></tr></thead>
      <tbody>{d.columns.map(c => <tr key={c.name}><td>{name(c.name)}</td><td>{c.type}</td></tr>)}</tbody>
    </table></div>
  </section>
}

/** What has landed in the datasets of the config that runs, and questions to them. */
export function Lake() {
  const [all, set] = useState<Dataset[] | null>(null), [wrong, tell] = useState(''), [busy, work] = useState(false)
  const [chosen, choose] = useState(new URLSearchParams(location.search).get('dataset') ?? '')
  const load = () => {
    work(true); tell('')
    ask<{ datasets: Dataset[] }>('v1/lake/datasets').then(x => set(x.datasets), (e: Error) => tell(e.message)).finally(() => work(false))
  }
  useEffect(() => { if (graph.value) load() }, [graph.value])
  useEffect(() => { history.replaceState(null, '', location.pathname + (chosen ? '?' + query({ dataset: chosen }) : '')) }, [chosen])
  const there = all?.filter(d => !d.absent && !d.error) ?? []
  const one = there.find(d => d.id === chosen) ?? (there.length === 1 ? there[0] : undefined), at = now.value!.at
  return <>
    <div class="bar"><h1>Lake</h1><span class="grow" /><button disabled={busy} onClick={load}>Look again</button></div>
    {wrong && <p class="bad" role="alert">{wrong}</p>}
    {!all && !wrong && <p class="empty">The datasets are being looked at.</p>}
    {all && all.length === 0 && <div class="panel"><p class="empty">No target of this config lands events in a lake. This one writes Parquet files that every engine reads:</p><pre>{empty}</pre></div>}
    {all && all.length > 0 && <div class="panel scroll" tabIndex={0} role="region" aria-label="Datasets"><table>
      <thead><tr><th>Dataset</th><th>State</th><th>Pipeline</th><th>Last commit</th><th>Newest event</th><th class="n">Rows</th><th class="n">Files</th><th class="n">Size</th><th class="n">Columns</th></tr></thead>
      <tbody>{all.map(d => <tr key={d.id} class={d === one ? 'chosen' : undefined}>
        <td>{d.absent || d.error ? d.table : <button class="link" aria-pressed={d === one} onClick={() => choose(d.id)}>{d.table}</button>}</td>
        <td class={d.error ? 'wide' : undefined}>{d.error ? <><State of="degraded" word="cannot be looked at" /> <span class="why">{d.error}</span></> : d.absent ? <State of="idle" word="nothing has landed yet" /> : <State of="ready" word="has landed" />}</td>
        <td>{d.pipeline}, {d.component}</td>
        <td>{d.committed && <><Moment at={d.committed} /> <span class="soft"><Since at={d.committed} now={at} ago /></span></>}</td>
        <td>{d.last && <Moment at={d.last} />}</td>
        <td class="n">{count(d.rows)}</td><td class="n">{count(d.files)}</td><td class="n">{bytes(d.bytes)}</td><td class="n">{count(d.columns.length)}</td>
      </tr>)}</tbody>
    </table></div>}
    {one && <One key={one.id} d={one} />}
  </>
}
