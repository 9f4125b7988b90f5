import { useState } from 'preact/hooks'
import { difference, readable, save, text, type Payload } from './api'
import { bytes, Moment, State } from './show'

/** What GET /v1/tap and a rehearsal tell of a message at a point. */
export type Seen = { data: Payload; bytes: number; cut?: boolean; key?: string; headers?: unknown; deleted?: boolean }
export type Rec = {
  at: string; pipeline: string; point: string; step?: string; outcome: string; why?: string; id?: string; trace?: string
  workspace?: string; source?: string; destination?: string; before: Seen; after?: Seen[]; raw?: Payload
}
export type Rehearsal = { pipeline: string; outcome: string; why?: string; steps: Rec[]; outputs: Rec[]; difference: string; case: string }

const shape: Record<string, string> = { delivered: 'running', read: 'running', passed: 'idle', changed: 'running', split: 'running', filtered: 'idle', failed: 'degraded', stopped: 'waiting' }
export const Outcome = ({ of }: { of: string }) => <State of={shape[of] ?? 'idle'} word={of} />

export const whose = (x: { workspace?: string; source?: string; destination?: string }) => [x.workspace, x.source, x.destination].filter(Boolean).join(' / ')

export function Lines({ before, after }: { before: string; after: string }) {
  return <pre class="lines" tabIndex={0} role="region" aria-label="Difference">{difference(before, after).map(([mark, line]) =>
    <span class={mark === '+' ? 'plus' : mark === '-' ? 'minus' : undefined}>{mark + ' ' + line + '\n'}</span>)}</pre>
}

const all = (s: Seen[]) => s.map(x => readable(x.data) + (x.cut ? `\n… of ${bytes(x.bytes)}` : '')).join('\n')

/** What a transform made of a message, or what came to a target. */
export function Record({ r }: { r: Rec }) {
  const before = all([r.before])
  return <>
    {r.why && <p class="soft why">{r.why}</p>}
    {r.after?.length ? <Lines before={before} after={all(r.after)} /> : <pre class="lines" tabIndex={0} role="region" aria-label="Payload">{r.before.deleted ? 'no payload: something is deleted' : before}</pre>}
  </>
}

export function Shown({ result }: { result: Rehearsal }) {
  return <div class="result" role="status">
    <h3>Today it would be <Outcome of={result.outcome} /></h3>
    {result.why && <p class="soft why">{result.why}</p>}
    <ol class="hops">
      {result.steps.map(s => <li><b>{s.step}</b> <Outcome of={s.outcome} />{s.outcome !== 'passed' && <Record r={s} />}</li>)}
      {result.outputs.map(s => <li><b>{s.point}</b> would get<Record r={s} /></li>)}
    </ol>
    <button onClick={() => save('case.txtar', result.case)}>Save as a test case</button> <span class="soft">for <code>weir test</code></span>
  </div>
}

/** A button that gives the clipboard a text, and says whether it did. */
export function Copied({ of }: { of: string }) {
  const [said, say] = useState('')
  const copy = async () => {
    try { await navigator.clipboard.writeText(of); say('Copied.') } catch { say('This page may not copy: mark the text, and copy it.') }
    setTimeout(() => say(''), 4000)
  }
  return <><button type="button" onClick={() => void copy()}>Copy</button><span role="status" class="soft">{said}</span></>
}

/** A button that says first how many it is about, and does nothing before that is confirmed. */
export function Sure({ word, count, act, bad }: { word: string; count: () => Promise<[number, string]>; act: () => Promise<string>; bad?: boolean }) {
  const [asked, ask] = useState<[number, string] | null>(null), [said, say] = useState(''), [busy, work] = useState(false)
  const run = async (f: () => Promise<void>) => { work(true); try { await f() } catch (e) { say((e as Error).message) } work(false) }
  return <span class="sure">
    {!asked && <button disabled={busy} onClick={() => void run(async () => { say(''); ask(await count()) })}>{word}…</button>}
    {asked && <span class="asked" role="alertdialog" aria-label={word}>
      <span>{asked[1]}</span>
      {asked[0] > 0 && <button class={bad ? 'danger' : 'main'} disabled={busy} onClick={() => void run(async () => { say(await act()); ask(null) })}>{word}</button>}
      <button disabled={busy} onClick={() => ask(null)}>{asked[0] > 0 ? 'No' : 'Close'}</button>
    </span>}
    {said && <span role="status" class="soft">{said}</span>}
  </span>
}

export function Facts({ of }: { of: [string, string | undefined | preact.ComponentChildren][] }) {
  return <dl class="facts small">{of.filter(([, v]) => v !== undefined && v !== '' && v !== null).map(([k, v]) => <div><dt>{k}</dt><dd>{v}</dd></div>)}</dl>
}

export function Held({ name, of, hidden }: { name: string; of: Payload; hidden?: boolean }) {
  if (hidden) return <p class="empty">The {name} is hidden: who sees it needs the right “payloads”.</p>
  return <><h3>{name}</h3><pre class="lines" tabIndex={0} role="region" aria-label={name}>{readable(of) || (of === '' ? '(empty)' : '(none)')}</pre></>
}

export const headers = (h: unknown) => h ? JSON.stringify(h) : ''
export { Moment, text }
