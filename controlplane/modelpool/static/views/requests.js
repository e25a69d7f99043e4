// The requests that are over, newest first, and which models are at work on some now.
import { html, useAnswer, useCalm, useState, clock, count, modelLink, seconds } from "../lib.js";
import { get, query } from "../api.js";
import { useLive } from "../live.js";
import { Capture, Content } from "../parts/capture.js";

const PAGE = 50;
const STATUSES = [["", "any"], ["2xx", "answered"], ["4xx", "refused, left"], ["5xx", "failed"]];

export function Requests({ route }) {
  const live = useLive();
  const [model, setModel] = useState(route.query.get("model") ?? "");
  const [status, setStatus] = useState("");
  const [surface, setSurface] = useState("");
  const [limit, setLimit] = useState(PAGE);
  const wanted = { model: useCalm(model.trim()), status, surface: useCalm(surface.trim()), limit };
  const asked = useAnswer(() => get(`requests${query(wanted)}`), [...Object.values(wanted), live.at]);
  const busy = live.models.filter((m) => m.in_flight > 0 || m.replicas?.some((r) => r.waiting > 0));
  return html`
    <div class="head"><h1>Requests</h1></div>
    <${Now} models=${busy} />
    <section class="card" aria-labelledby="past">
      <header>
        <h2 id="past">Newest first</h2>
        ${asked.data?.missing > 0 && html`<span class="dim">${count(asked.data.missing)} more were not told in time</span>`}
        ${asked.data && asked.data.log !== "off" && html`<${Capture} capture=${asked.data.capture} model=${known(live, wanted.model)} reload=${asked.reload} />`}
      </header>
      <div class="row">
        <div class="field grow"><label for="model">Model</label><input id="model" type="search" value=${model} placeholder="id, or the name it was asked by" onInput=${(e) => setModel(e.target.value)} /></div>
        <div class="field grow"><label for="surface">Surface</label><input id="surface" type="search" value=${surface} placeholder="/v1/chat/completions" onInput=${(e) => setSurface(e.target.value)} /></div>
        <div class="field"><label for="status">Status</label>
          <select id="status" value=${status} onChange=${(e) => setStatus(e.target.value)}>${STATUSES.map(([value, text]) => html`<option value=${value}>${text}</option>`)}</select>
        </div>
      </div>
      ${asked.error && html`<p class="problem">${asked.error.message}</p>`}
      <${Past} answer=${asked.data} />
      ${asked.data?.next_before && limit < 1000 && html`<button onClick=${() => setLimit(Math.min(1000, limit + 4 * PAGE))}>More</button>`}
    </section>
  `;
}

// A model that can be named when capturing; of what is only typed halfway all are meant.
const known = (live, name) => (live.models.some((m) => m.model_id === name) ? name : "");

function Now({ models }) {
  return html`<section class="card" aria-labelledby="now">
    <header><h2 id="now">At work</h2></header>
    ${models.length === 0 && html`<p class="dim">No request is in flight.</p>`}
    ${models.map((m) => html`<div class="sub" key=${m.model_id}><a class="name" href=${modelLink(m.model_id)}>${m.model_id}</a> works on ${count(m.in_flight)}</div>`)}
  </section>`;
}

function Past({ answer }) {
  if (!answer) return null;
  if (answer.log === "off") return html`<p class="dim">No requests are logged: <code>request_log</code> is off.</p>`;
  if (!answer.requests.length) return html`<p class="dim">No such request.</p>`;
  const hasSaid = answer.capture.on || answer.capture.captured > 0;
  const longest = Math.max(...answer.requests.map((r) => r.seconds));
  return html`<div class="scroll"><table class="requests">
    <thead><tr>
      <th scope="col">Model</th><th scope="col">Status</th><th scope="col" class="phased">Time</th>
      <th scope="col" class="n wide">Tokens</th><th scope="col" class="wide">Surface</th><th scope="col" class="wide">At</th>
      ${hasSaid && html`<th scope="col"><span class="skip">What was said</span></th>`}
    </tr></thead>
    <tbody>${answer.requests.map((r) => html`<${Row} key=${r.number} request=${r} longest=${longest} hasSaid=${hasSaid} />`)}</tbody>
  </table></div>`;
}

function Row({ request: r, longest, hasSaid }) {
  const [isOpen, setOpen] = useState(false);
  const hasFailed = r.status >= 400;
  const tokens = `${r.tokens_estimated ? "~" : ""}${count(r.prompt_tokens)} + ${count(r.completion_tokens)}`;
  const via = [r.model !== r.model_id && r.model_id && `asked as ${r.model}`, r.virtual_model && `by ${r.virtual_model}`].filter(Boolean).join(", ");
  return html`<tr>
    <td>${r.model_id ? html`<a class="name" href=${modelLink(r.model_id)}>${r.model_id}</a>` : html`<span class="name">${r.model || "–"}</span>`}${via && html`<div class="sub">${via}</div>`}</td>
    <td><span class=${hasFailed ? "problem" : ""}>${r.status}</span>${r.code && html`<div class="sub">${r.code}</div>`}</td>
    <td class="phased"><${Phases} request=${r} longest=${longest} /><div class="sub narrow">${tokens} tokens</div></td>
    <td class="n wide">${tokens}${r.cached_tokens > 0 && html`<div class="sub">${count(r.cached_tokens)} cached</div>`}</td>
    <td class="wide sub">${r.surface}<div>${r.stream ? "stream" : "whole"}, ${r.by === "worker" ? "straight to its port" : "by the gateway"}</div></td>
    <td class="wide sub" title=${r.request_id}>${clock(r.at)}</td>
    ${hasSaid && html`<td class="n">${r.captured && html`<button aria-expanded=${isOpen} aria-label=${`What was said in request ${r.number}`} onClick=${() => setOpen(!isOpen)}>Said</button>`}</td>`}
  </tr>
  ${isOpen && r.captured && html`<tr><td colspan="7"><${Content} number=${r.number} /></td></tr>`}`;
}

function Phases({ request: r, longest }) {
  const waited = Math.min(r.waited_seconds, r.seconds);
  const read = r.first_token_seconds === null ? 0 : Math.max(0, r.first_token_seconds - waited);
  const rest = Math.max(0, r.seconds - waited - read);
  const part = (value) => `width:${(100 * value) / (longest || 1)}%`;
  const said = [waited > 0.001 && `waited ${seconds(waited)}`, read > 0 && `first token ${seconds(r.first_token_seconds)}`, `in all ${seconds(r.seconds)}`].filter(Boolean).join(", ");
  return html`<div class="phases" role="img" aria-label=${said}>
      <i class="wait" style=${part(waited)}></i><i class="prompt" style=${part(read)}></i><i class="answer" style=${part(rest)}></i>
    </div>
    <div class="sub">${said}</div>`;
}
