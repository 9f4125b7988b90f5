import { useEffect, useState } from 'preact/hooks'
import { ask, query } from './api'
import { Drawing } from './drawing'
import { whose } from './parts'
import { count, Link, Moment, place, span, State, to } from './show'

type Hop = {
  at?: string; kind: string; name: string; where: string; node?: string; outcome: string; why?: string; attempts?: number; not_before?: string
  workspace?: string; source?: string; destination?: string; ref?: string; job?: string
}
type Trail = { id: string; hops: Hop[]; through: string[]; perhaps: string[]; followed?: string; unknown: string[] }

const shapes: Record<string, string> = { waiting: 'idle', retrying: 'waiting', dead: 'degraded', failed: 'degraded', delivered: 'running', filtered: 'idle', read: 'running', passed: 'idle', changed: 'running', split: 'running' }

function Where({ h }: { h: Hop }) {
  const words = h.where.replaceAll('"', '')
  if (h.ref) return <a href={to('/failures') + '?' + query({ ref: h.ref })}>{words}</a>
  if (h.kind === 'queue') return <Link page={'/q/' + h.name}>{words}</Link>
  if (h.kind === 'machine') return <Link page={'/machines/' + h.name}>{words}</Link>
  return <Link page={'/p/' + h.name}>{words}</Link>
}

function Due({ h }: { h: Hop }) {
  const left = h.not_before ? (Date.parse(h.not_before) - Date.now()) / 1000 : 0
  return left > 0 ? <span class="soft">until <Moment at={h.not_before!} />, in {span(left)}</span> : null
}

function Hops({ hops }: { hops: Hop[] }) {
  return <div class="panel scroll" tabIndex={0} role="region" aria-label="Where it is and was"><table>
    <thead><tr><th>When</th><th>Where</th><th>Outcome</th><th class="n">Failed attempts</th><th>Whose</th><th>Why</th></tr></thead>
    <tbody>{hops.map(h => <tr><td>{h.at && <Moment at={h.at} />}</td><td><Where h={h} /></td><td><State of={shapes[h.outcome] ?? 'idle'} word={h.outcome} /> <Due h={h} /></td>
      <td class={h.attempts ? 'n bad' : 'n'}>{h.attempts ? count(h.attempts) : ''}</td><td>{whose(h)}</td><td class="wide">{h.why}</td></tr>)}</tbody>
  </table></div>
}

/** What is known of a message, asked for again while it is followed. */
function useTrail(id: string) {
  const [t, set] = useState<Trail | null>(null), [wrong, tell] = useState(''), [turn, again] = useState(0)
  useEffect(() => {
    if (!id) return
    let over = false, timer = 0
    const load = () => ask<Trail>('v1/messages?' + query({ id })).then(x => {
      if (over) return
      set(x); tell('')
      if (x.followed && Date.parse(x.followed) > Date.now()) timer = window.setTimeout(() => void load(), 2000)
    }, (e: Error) => { if (!over) tell(e.message) })
    void load()
    return () => { over = true; clearTimeout(timer) }
  }, [id, turn])
  return { t, wrong, again: () => again(turn + 1) }
}

/** Where a message went that was sent just now. */
export function Followed({ id }: { id: string }) {
  const { t, wrong } = useTrail(id)
  return <>
    <h3>Where it went</h3>
    {wrong && <p class="bad why" role="alert">{wrong}</p>}
    {t && t.hops.length > 0 && <Hops hops={t.hops} />}
    {t && t.hops.length === 0 && <p class="soft">Nothing was heard of it yet.</p>}
    <p class="why"><Link page={'/m/' + id}>See it on the drawing</Link></p>
  </>
}

function Search({ id }: { id: string }) {
  return <form class="bar search" role="search" onSubmit={e => {
    e.preventDefault()
    const asked = String(new FormData(e.currentTarget).get('id')).trim()
    if (!asked) return
    history.pushState(null, '', to('/m/' + asked))
    place.value = '/m/' + asked
  }}>
    <label>Id of the message <input class="address" name="id" defaultValue={id} autocomplete="off" spellcheck={false} /></label>
    <button class="main">Find it</button>
  </form>
}

function Summary({ t }: { t: Trail }) {
  if (t.hops.length === 0) return <p><State of="idle" word="Nothing that is recorded has this id." /></p>
  const bad = t.hops.filter(h => h.outcome === 'dead' || h.outcome === 'failed').length, open = t.hops.filter(h => h.outcome === 'waiting' || h.outcome === 'retrying').length, out = t.hops.filter(h => h.outcome === 'delivered').length
  const words = [open && `waits at ${open === 1 ? 'one place' : open + ' places'}`, bad && `failed at ${bad === 1 ? 'one place' : bad + ' places'}`, out && `was seen to be delivered ${out === 1 ? 'once' : out + ' times'}`].filter(Boolean).join(', ')
  return <p><State of={bad ? 'degraded' : open ? 'waiting' : 'running'} word={words ? 'It ' + words + '.' : 'It was seen.'} /></p>
}

/** One message through every hop, as far as that is recorded. */
export function Message({ id }: { id: string }) {
  const { t, wrong, again } = useTrail(id)
  const at = new Set(t?.hops.map(h => h.node)), through = new Set(t?.through), perhaps = new Set(t?.perhaps)
  return <>
    <div class="bar"><h1>{id ? 'One message' : 'Find a message'}</h1><span class="grow" />{id && <button onClick={again}>Look again</button>}</div>
    <Search key={id} id={id} />
    {!id && <div class="panel"><p class="empty">Events of a gateway have their messageId, records of a queue the id that came with them. The same on a command line, for what waits or failed:</p><pre>{`weir failures ls --json | grep ID\nweir queue show NAME --json | grep ID`}</pre></div>}
    {wrong && <p class="bad" role="alert">{wrong}</p>}
    {id && !t && !wrong && <p class="empty">It is being looked for.</p>}
    {t && <>
      <Summary t={t} />
      {t.hops.length > 0 && <Hops hops={t.hops} />}
      {t.through.length > 0 && <><h2>On the drawing</h2><div class="panel">
        <Drawing of={n => at.has(n) ? 'here' : through.has(n) ? 'through' : perhaps.has(n) ? 'perhaps' : 'aside'} />
        <p class="legend"><span class="key here">is or was seen here</span><span class="key through">must have passed</span>{t.perhaps.length > 0 && <span class="key perhaps">may have passed</span>}</p>
      </div></>}
      <h2>What this cannot know</h2>
      <ul class="soft">{t.unknown.map(u => <li>{u}</li>)}</ul>
    </>}
  </>
}
