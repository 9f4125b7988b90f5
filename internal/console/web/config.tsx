import { useEffect, useState } from 'preact/hooks'
import { around, ask, difference } from './api'
import { graph } from './now'
import { Moment, State } from './show'

type File = { name: string; state: string; text: string; running?: string; hidden?: boolean; cut?: boolean }
type Finding = { severity: string; file?: string; line?: number; what: string; fix?: string }
type Answer = { at: string; since: string; files: File[]; findings: Finding[]; refused: boolean; same: boolean }

const empty = `weir run weir.hcl

# weir.hcl
source {
  use "http" {}
}
target {
  use "stdout" {}
}`

const words: Record<string, [string, string]> = {
  same: ['running', 'as what runs'], changed: ['waiting', 'changed'], new: ['waiting', 'new: what runs does not have it'], gone: ['waiting', 'gone: what runs still has it'],
}
const lineID = (file: number, line: number) => `line-${file}-${line}`

function Verdict({ c }: { c: Answer }) {
  const errors = c.findings.filter(f => f.severity === 'error').length
  return <div class="panel one" role="status">
    {c.refused
      ? <p><State of="degraded" word={`The files have ${errors === 1 ? 'an error' : errors + ' errors'}: what runs goes on, and a reload would be refused.`} /></p>
      : c.same ? <p><State of="ready" word="The files are what runs." /></p>
      : <p><State of="waiting" word="The files are not what runs." /> A reload, by the signal SIGHUP, takes them.</p>}
    <p class="soft why">What runs came into force <Moment at={c.since} />; the files were looked at <Moment at={c.at} />. Other files that the config names, such as scripts, are not compared.</p>
  </div>
}

function Findings({ c }: { c: Answer }) {
  const go = (f: Finding) => {
    const line = document.getElementById(lineID(c.files.findIndex(x => x.name === f.file), f.line ?? 1))
    line?.scrollIntoView({ block: 'center' })
    line?.focus({ preventScroll: true })
  }
  return <>
    <h2>What is wrong</h2>
    <div class="panel"><ul class="needs">{c.findings.map(f => <li>
      <span class="why"><State of={f.severity === 'error' ? 'degraded' : 'waiting'} word={f.severity} /> {f.what}</span>
      {f.file && <span class="since">{c.files.some(x => x.name === f.file) && f.line ? <button class="link" onClick={() => go(f)}>{f.file}:{f.line}</button> : f.file}</span>}
      {f.fix && <span class="do">{f.fix}</span>}
    </li>)}</ul></div>
  </>
}

const color = (mark: string) => mark === '+' ? 'plus' : mark === '-' ? 'minus' : undefined

function Difference({ f }: { f: File }) {
  const lines = around(difference(f.running ?? '', f.text))
  const some = lines.some(([mark]) => mark === '+' || mark === '-')
  return <>
    <h3>{f.name}</h3>
    {f.hidden && <p class="soft why">A value that is hidden differs.</p>}
    {some && <pre class="lines" tabIndex={0} role="region" aria-label={'What differs in ' + f.name}>{lines.map(([mark, line]) => <span class={color(mark)}>{mark + ' ' + line + '\n'}</span>)}</pre>}
  </>
}

function Text({ f, n, findings }: { f: File; n: number; findings: Finding[] }) {
  const lines = f.text.replace(/\n$/, '').split('\n'), wide = String(lines.length).length
  return <section aria-label={f.name}>
    <h3>{f.name} <State of={words[f.state]![0]} word={words[f.state]![1]} /></h3>
    {f.state !== 'gone' && <pre class="source" tabIndex={0} role="region" aria-label={'Text of ' + f.name}>{lines.map((line, i) => {
      const wrong = findings.filter(x => x.file === f.name && x.line === i + 1)
      return <>
        <span id={lineID(n, i + 1)} tabIndex={wrong.length ? -1 : undefined} class={wrong.length ? 'marked' : undefined}><span class="soft" aria-hidden="true">{String(i + 1).padStart(wide)}  </span>{line + '\n'}</span>
        {wrong.map(x => <span class={x.severity === 'error' ? 'bad note' : 'note'}>{' '.repeat(wide + 2) + '▲ ' + x.severity + ': ' + x.what + '\n'}</span>)}
      </>
    })}</pre>}
    {f.cut && <p class="soft">It is longer than what is shown.</p>}
  </section>
}

/** The files of the config as they are now, what is wrong with them, and what differs from what runs. */
export function Config() {
  const [c, set] = useState<Answer | null>(null), [wrong, tell] = useState(''), [busy, work] = useState(false)
  const load = () => {
    work(true); tell('')
    ask<Answer>('v1/config').then(set, (e: Error) => tell(e.message)).finally(() => work(false))
  }
  useEffect(() => { if (graph.value) load() }, [graph.value]) // it is fetched again with each config that comes into force
  const changed = c?.files.filter(f => f.state !== 'same') ?? []
  return <>
    <div class="bar"><h1>Config</h1><span class="grow" /><button disabled={busy} onClick={load}>Look again</button></div>
    {wrong && <p class="bad" role="alert">{wrong}</p>}
    {!c && !wrong && <p class="empty">The files are being read.</p>}
    {c && c.files.length > 0 && <Verdict c={c} />}
    {c && c.findings.length > 0 && <Findings c={c} />}
    {c && c.files.length === 0 && <div class="panel"><p class="empty">What runs was read from no file, but from the environment, or is the default: standard input to standard output. A config in a file is shown here:</p><pre>{empty}</pre></div>}
    {changed.length > 0 && <><h2>What differs from what runs</h2><div class="panel one">{changed.map(f => <Difference key={f.name} f={f} />)}</div></>}
    {c && c.files.length > 0 && <><h2>The files as they are</h2>{c.files.map((f, n) => <Text key={f.name} f={f} n={n} findings={c.findings} />)}</>}
  </>
}
