// The pool at this moment: its memory, its models, what it does.
import { html, useEffect, useMemo, useState, useAnswer, useCalm, count, duration, memory, modelLink } from "../lib.js";
import { get, query } from "../api.js";
import { useLive } from "../live.js";
import { extend, load, unload } from "../actions.js";
import { Activity } from "../parts/activity.js";
import { Memory } from "../parts/memory.js";
import { foreseeing } from "../parts/outlook.js";
import { Lease, Spark, State } from "../parts/state.js";
import { EventList } from "../parts/events.js";

const PAGE = 50;
const FIELDS =
  "model_id,display_name,engine,engine_problem,state,quantization,context_length,memory_estimate_mb,size_mb,fits,port,failure,progress,replicas,served_by,tags,sleeping,in_flight,waiting";

export function Pool() {
  const live = useLive();
  if (!live.isKnown) return html`<h1>Pool</h1><p class="dim">asking the pool …</p>`;
  const { health } = live;
  return html`
    <div class="head">
      <h1>${health.hostname}</h1>
      <span class=${`figure state ${health.status === "healthy" ? "hot" : "failed"}`}>${health.status}</span>
      <span class="figure"><b>${health.active_models}</b> of ${health.total_models} models loaded</span>
      <span class="figure"><b>${count(live.requestsPerSecond)}</b> requests/s</span>
      <span class="figure"><b>${count(live.tokensPerSecond)}</b> tokens/s</span>
      <span class="figure wide">${health.available_ports} ports free</span>
      <span class="figure wide">up ${duration(health.uptime_seconds)}</span>
    </div>
    <${Memory} live=${live} />
    ${live.jobs.length > 0 && html`<${Working} jobs=${live.jobs} />`}
    <${Models} live=${live} />
    <${Activity} />
    <section class="card" aria-labelledby="happened">
      <header><h2 id="happened">What happened</h2><a class="small" href="#/events">all</a></header>
      <${EventList} events=${live.events.slice(0, 8)} />
    </section>
  `;
}

function Working({ jobs }) {
  return html`<section class="card" aria-labelledby="jobs">
    <header><h2 id="jobs">At work</h2><a class="small" href="#/pull">all jobs</a></header>
    ${jobs.map(
      (job) => html`<div key=${job.job_id}>
        ${job.kind} <b>${job.subject}</b> <span class="sub">${job.progress.text}</span>
        ${job.progress.fraction !== null && html`<progress value=${job.progress.fraction} max="1" aria-label=${job.kind}></progress>`}
      </div>`,
    )}
  </section>`;
}

const matches = (model, text) =>
  !text || [model.model_id, model.display_name, ...(model.tags ?? [])].some((name) => name.toLowerCase().includes(text));

function Models({ live }) {
  const [text, setText] = useState("");
  const [pages, setPages] = useState(1);
  const calm = useCalm(text.trim());
  useEffect(() => setPages(1), [calm]);
  const ids = live.models.map((m) => m.model_id).join();
  const { data, error } = useAnswer(
    () => get(`models${query({ fields: FIELDS, limit: PAGE * pages, q: calm })}`),
    [calm, pages, ids, live.health.total_models, live.health.run],
  );
  const awake = useMemo(() => live.models.filter((m) => matches(m, calm.toLowerCase())), [live.models, calm]);
  const known = new Set(live.models.map((m) => m.model_id));
  const others = (data?.models ?? []).filter((m) => !known.has(m.model_id) && m.state === "COLD");
  return html`<section class="card" aria-labelledby="models">
    <header>
      <h2 id="models">Models</h2>
      <input type="search" placeholder="Filter by name or tag" aria-label="Filter models" value=${text} onInput=${(e) => setText(e.target.value)} />
    </header>
    ${error && html`<p class="problem">${error.message}</p>`}
    ${!awake.length && !others.length
      ? html`<p class="dim">
          ${calm ? `No model matches “${calm}”.` : "No model is known yet."} <a href="#/pull">Find or pull one</a>.
        </p>`
      : html`<div class="scroll"><table>
          <thead>
            <tr>
              <th scope="col">Model</th><th scope="col">State</th><th scope="col" class="wide">Lease</th>
              <th scope="col" class="n wide">In flight</th><th scope="col" class="wide">Tokens/s</th>
              <th scope="col" class="n wide">Memory</th><th scope="col"><span class="skip">Actions</span></th>
            </tr>
          </thead>
          <tbody>
            ${[...awake, ...others].map((m) => html`<${Row} key=${m.model_id} model=${m} samples=${live.rates.get(m.model_id)} />`)}
          </tbody>
        </table></div>`}
    ${data?.next_offset && html`<p><button onClick=${() => setPages(pages + 1)}>Show more of ${data.total}</button></p>`}
  </section>`;
}

const about = (m) =>
  [m.engine, m.quantization, m.context_length && `${count(m.context_length)} context`, m.port && `:${m.port}`].filter(Boolean).join(" · ");

function Row({ model, samples }) {
  const isCold = model.state === "COLD";
  const measured = model.memory_measured_mb;
  const rate = samples?.at(-1) ?? 0;
  return html`<tr>
    <td>
      <a class="name" href=${modelLink(model.model_id)}>${model.model_id}</a>
      <div class="sub">${about(model)}</div>
      ${model.engine_problem && html`<div class="sub problem">${model.engine_problem}</div>`}
    </td>
    <td><${State} model=${model} /></td>
    <td class="wide">${isCold ? html`<span class="sub">${fit(model.fits)}</span>` : html`<${Lease} model=${model} />`}</td>
    <td class="n wide">${isCold ? "" : model.in_flight}${model.waiting ? html` <span class="sub">+${model.waiting} waiting</span>` : ""}</td>
    <td class="wide">${rate > 0 ? html`<${Spark} samples=${samples} /> ${count(rate)}` : ""}</td>
    <td class="n wide">
      ${memory(measured ?? model.memory_estimate_mb)}
      <div class="sub">${measured === null || measured === undefined ? "estimated" : `${memory(model.memory_estimate_mb)} estimated`}</div>
    </td>
    <td class="n"><${Action} model=${model} /></td>
  </tr>`;
}

const VERDICTS = { now: "fits now", "after evictions": "fits if others leave", later: "fits later", never: "does not fit here" };
const fit = (fits) => (fits ? VERDICTS[fits.verdict] ?? fits.verdict : "");

function Action({ model }) {
  const id = model.model_id;
  const named = (word) => `${word} ${id}`;
  if (model.served_by) return null;
  if (model.state === "COLD") {
    const cannot = Boolean(model.engine_problem);
    return html`<button aria-label=${named("Load")} disabled=${cannot} onClick=${() => load(id)} ...${foreseeing(id)}>Load</button>`;
  }
  if (model.state === "FAILED") {
    return html`<a href=${modelLink(id, "log")}>Why?</a> <button aria-label=${named("Load")} onClick=${() => load(id)} ...${foreseeing(id)}>Try again</button>`;
  }
  if (model.state === "WARMING") {
    return html`<button aria-label=${named("Cancel the load of")} onClick=${() => unload(id)}>Cancel</button>`;
  }
  if (model.state === "UNLOADING") return html`<span class="sub">leaving</span>`;
  return html`${model.expires_at &&
    html`<button class="wide" aria-label=${named("Keep")} onClick=${() => extend(id, 15)}>+15 min</button>${" "}`}
    <button aria-label=${named("Unload")} onClick=${() => unload(id)}>Unload</button>`;
}
