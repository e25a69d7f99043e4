// One model: what it is, what it can, what it needs, what happened to it.
import { html, useAnswer, useEffect, useRef, useState, count, memory, modelLink, modelPath, seconds, when } from "../lib.js";
import { get, lines, patch, post, query, stream } from "../api.js";
import { useLive } from "../live.js";
import { extend, load, unload } from "../actions.js";
import { attempt, notify } from "../notices.js";
import { Lease, State } from "../parts/state.js";
import { EventList } from "../parts/events.js";
import { Activity } from "../parts/activity.js";
import { UsageChart } from "../parts/usage_chart.js";

const TABS = { "": "Overview", options: "Options", profile: "Speed", history: "History", log: "Log" };

export function Model({ route }) {
  const [, id, tab = ""] = route.parts;
  const live = useLive();
  const now = live.models.find((m) => m.model_id === id);
  const told = useAnswer(() => get(modelPath(id)), [id, now?.state, now?.generation]);
  if (told.error && !told.data) return html`<h1>${id}</h1><p class="problem">${told.error.message}</p>`;
  if (!told.data) return html`<h1>${id}</h1>`;
  const model = { ...told.data, ...now, facts: told.data.facts, profile: told.data.profile };
  return html`
    <div class="head">
      <h1>${model.display_name}</h1>
      <span><${State} model=${model} /></span>
      <span class="figure"><${Lease} model=${model} /></span>
      <${Actions} model=${model} />
    </div>
    <p class="dim">${model.reason}${model.engine_problem && html` · <span class="problem">${model.engine_problem}</span>`}</p>
    ${model.failure && html`<${Failure} failure=${model.failure} />`}
    <div class="tabs" role="navigation" aria-label="About this model">
      ${Object.entries(TABS).map(
        ([name, title]) => html`<a href=${modelLink(id, name)} aria-current=${name === tab ? "page" : null}>${title}</a>`,
      )}
    </div>
    ${tab === "options" && html`<${Options} id=${id} />`}
    ${tab === "profile" && html`<${Profiles} id=${id} />`}
    ${tab === "history" && html`<${History} id=${id} />`}
    ${tab === "log" && html`<${Log} id=${id} generation=${model.generation} />`}
    ${tab === "" && html`<${Overview} model=${model} />`}
  `;
}

function Failure({ failure }) {
  return html`<section class="card">
    <header><h2 class="problem">${failure.code}: ${failure.message}</h2></header>
    ${failure.retry_at && html`<p class="dim">It is tried again at ${when(failure.retry_at)}.</p>`}
    ${failure.lines.length > 0 && html`<pre tabindex="0">${failure.lines.join("\n")}</pre>`}
  </section>`;
}

function Actions({ model }) {
  const id = model.model_id;
  const isHere = ["HOT", "COOLING"].includes(model.state);
  return html`<span class="row">
    ${["COLD", "FAILED"].includes(model.state) &&
    html`<button class="main" disabled=${Boolean(model.engine_problem)} onClick=${() => load(id)}>Load</button>`}
    ${model.state === "WARMING" && html`<button onClick=${() => unload(id)}>Cancel</button>`}
    ${isHere && html`<button onClick=${() => unload(id)}>Unload</button>`}
    ${isHere && model.expires_at && html`<button onClick=${() => extend(id, 15)}>+15 min</button>`}
    ${(!model.capabilities?.length || model.capabilities.includes("chat")) && html`<a href=${`#/try?model=${encodeURIComponent(id)}`}>Try it</a>`}
  </span>`;
}

function Facts({ pairs }) {
  const told = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== "–");
  return html`<dl>${told.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;
}

function Overview({ model }) {
  const { facts } = model;
  const m = model.memory;
  return html`<div class="two">
      <section class="card" aria-labelledby="is">
        <header><h2 id="is">What it is</h2></header>
        <${Facts}
          pairs=${[
            ["id", model.model_id],
            ["also called", model.aliases.join(", ")],
            ["engine", model.engine],
            ["file", model.source],
            ["size", model.size_mb && memory(model.size_mb)],
            ["architecture", model.architecture],
            ["parameters", facts?.parameter_count && count(facts.parameter_count)],
            ["quantisation", model.quantization],
            ["context", model.context_length && `${count(model.context_length)} tokens`],
            ["licence", facts?.license],
            ["known from", model.origin],
            ["tags", model.tags.length ? model.tags.map((tag) => html`<span class="chip">${tag}</span>`) : ""],
          ]}
        />
      </section>
      <section class="card" aria-labelledby="needs">
        <header><h2 id="needs">What it needs</h2></header>
        <${Facts}
          pairs=${[
            ["estimated", m?.estimated_mb && memory(m.estimated_mb)],
            ["measured peak", m?.measured_peak_mb && memory(m.measured_peak_mb)],
            ["holds now", m?.current_mb && memory(m.current_mb)],
            ["counted with", m?.reserved_mb && `${memory(m.reserved_mb)}, ${m.source_of_reservation}`],
            ["fits here", model.fits?.verdict],
            ["port", model.port],
            ["in flight", model.in_flight],
            ["requests", count(model.requests_total)],
            ["tokens", count(model.tokens_total)],
          ]}
        />
      </section>
    </div>
    ${model.state !== "COLD" && html`<${Activity} id=${model.model_id} />`}
    ${model.requests_total !== undefined && html`<${Used} id=${model.model_id} />`}
    <${Capabilities} id=${model.model_id} />`;
}

function Used({ id }) {
  return html`<section class="card" aria-labelledby="used">
    <header><h2 id="used">Used in the last 7 days</h2><a class="small" href=${`#/requests?model=${encodeURIComponent(id)}`}>its requests</a></header>
    <${UsageChart} days=${7} measure="tokens" model=${id} />
  </section>`;
}

function Capabilities({ id }) {
  const { data, reload } = useAnswer(() => get(`${modelPath(id)}/capabilities`), [id]);
  const probe = () =>
    attempt(async () => {
      notify(`${id} is being asked what it can do`);
      await post(`${modelPath(id)}/probe?wait=120`);
      reload();
    });
  if (!data) return null;
  const row = (c, can) => html`<tr key=${c.capability}>
    <td>${can ? "yes" : "no"}</td><td class="name">${c.capability}</td><td>${c.source}, ${c.certainty}</td><td class="dim">${c.reason}</td>
  </tr>`;
  return html`<section class="card" aria-labelledby="can">
    <header><h2 id="can">What it can do</h2><button onClick=${probe}>Ask it</button></header>
    <div class="scroll"><table>
      <thead><tr><th scope="col">Can</th><th scope="col">Capability</th><th scope="col">Who says so</th><th scope="col">Why</th></tr></thead>
      <tbody>${data.found.map((c) => row(c, true))}${data.ruled_out.map((c) => row(c, false))}</tbody>
    </table></div>
  </section>`;
}

const shown = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));

function readOption(text) {
  if (text.trim() === "") return null;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function Options({ id }) {
  const { data, error, reload } = useAnswer(() => get(`${modelPath(id)}/options`), [id]);
  const [edited, setEdited] = useState(null);
  const save = (event) => {
    event.preventDefault();
    const { name, text } = edited;
    attempt(async () => {
      await patch(`${modelPath(id)}/options`, { [name]: readOption(text) });
      notify(`${name} counts from the next load of ${id}`);
      setEdited(null);
      reload();
    });
  };
  if (error) return html`<p class="problem">${error.message}</p>`;
  if (!data) return null;
  return html`<section class="card">
    <header><h2>Load options</h2><span class="dim">saved ones count from the next load; an empty one is the default again</span></header>
    <div class="scroll"><table>
      <thead><tr><th scope="col">Option</th><th scope="col">Effective</th><th scope="col">From</th><th scope="col">Running</th><th scope="col"><span class="skip">Change</span></th></tr></thead>
      <tbody>
        ${data.options.map(
          (o) => html`<tr key=${o.name}>
            <td><span class="name">${o.name}</span><div class="sub">${o.about}</div></td>
            <td>${shown(o.effective)}</td><td>${o.source}</td><td>${shown(o.running)}</td>
            <td class="n">
              ${edited?.name === o.name
                ? html`<form class="row" onSubmit=${save}>
                    <input aria-label=${`value of ${o.name}`} value=${edited.text} onInput=${(e) => setEdited({ name: o.name, text: e.target.value })} />
                    <button class="main">Save</button><button type="button" onClick=${() => setEdited(null)}>Cancel</button>
                  </form>`
                : html`<button aria-label=${`Change ${o.name}`} onClick=${() => setEdited({ name: o.name, text: shown(o.saved) })}>Change</button>`}
            </td>
          </tr>`,
        )}
      </tbody>
    </table></div>
  </section>`;
}

function Profiles({ id }) {
  const live = useLive();
  const jobs = live.jobs.filter((j) => j.subject === id);
  const { data, error } = useAnswer(() => get(`${modelPath(id)}/profiles`), [id, jobs.length]);
  const start = (verb, words) => attempt(async () => (await post(`${modelPath(id)}/${verb}`), notify(words)));
  return html`<section class="card">
    <header>
      <h2>How fast it is here</h2>
      <span class="row">
        <button onClick=${() => start("profile", `${id} is being measured`)}>Measure</button>
        <button onClick=${() => start("tune", `options of ${id} are being tried`)}>Tune</button>
      </span>
    </header>
    ${jobs.map((j) => html`<p key=${j.job_id}>${j.kind}: ${j.progress.text} ${j.progress.fraction !== null && html`<progress value=${j.progress.fraction} max="1" aria-label=${j.kind}></progress>`}</p>`)}
    ${error && html`<p class="problem">${error.message}</p>`}
    ${data && !data.profiles.length && html`<p class="dim">It has not been measured yet.</p>`}
    ${data?.profiles.map((p) => html`<${Profile} key=${p.at} profile=${p} />`)}
  </section>`;
}

const FIGURES = [
  ["first_token_ms", "First token", (ms) => seconds(ms / 1000)],
  ["prompt_per_second", "Prompt, tokens/s", count],
  ["output_per_second", "Answer, tokens/s together", count],
  ["texts_per_second", "Texts/s together", count],
  ["latency_ms", "Whole request", (ms) => seconds(ms / 1000)],
];

function Profile({ profile }) {
  const figures = FIGURES.filter(([name]) => profile.levels.some((level) => level[name]));
  const held = Object.entries(profile.memory_bytes).map(([where, bytes]) => `${memory(bytes / 1e6)} ${where}`);
  return html`<div>
    <p>
      <b>${when(profile.at)}</b> <span class="sub">load ${seconds(profile.load_seconds)} · ${held.join(", ")}</span>
      ${profile.is_stale && html`<span class="problem">${profile.stale}</span>`}
    </p>
    <div class="scroll"><table>
      <thead><tr><th scope="col">At once</th>${figures.map(([, title]) => html`<th scope="col" class="n">${title}</th>`)}</tr></thead>
      <tbody>
        ${profile.levels.map(
          (level) => html`<tr key=${level.streams}>
            <td>${level.streams}</td>
            ${figures.map(([name, , shown]) => html`<td class="n">${level[name] ? shown(level[name].median) : "–"}</td>`)}
          </tr>`,
        )}
      </tbody>
    </table></div>
  </div>`;
}

function History({ id }) {
  const [before, setBefore] = useState(null);
  const [events, setEvents] = useState([]);
  const { data, error } = useAnswer(() => get(`${modelPath(id)}/history${query({ limit: 50, before })}`), [id, before]);
  useEffect(() => {
    if (data) setEvents((old) => [...old, ...data.events.filter((e) => !old.some((o) => o.id === e.id))]);
  }, [data]);
  return html`<section class="card">
    <header><h2>What happened to it</h2></header>
    ${error && html`<p class="problem">${error.message}</p>`}
    <${EventList} events=${events} />
    ${data?.next_before && html`<button onClick=${() => setBefore(data.next_before)}>Earlier</button>`}
  </section>`;
}

const LINES_KEPT = 2000;

function Log({ id, generation }) {
  const [text, setText] = useState([]);
  const [problem, setProblem] = useState("");
  const box = useRef(null);
  useEffect(() => {
    const watch = new AbortController();
    setText([]);
    setProblem("");
    (async () => {
      try {
        const answer = await stream(`${modelPath(id)}/logs?lines=300&follow=true`, { signal: watch.signal });
        let pending = [];
        for await (const line of lines(answer)) {
          if (!pending.length) setTimeout(() => (setText((old) => [...old, ...pending].slice(-LINES_KEPT)), (pending = [])), 80);
          pending.push(line);
        }
      } catch (error) {
        if (error.name !== "AbortError") setProblem(error.message);
      }
    })();
    return () => watch.abort();
  }, [id, generation]);
  useEffect(() => {
    const at = box.current;
    if (at && at.scrollHeight - at.scrollTop - at.clientHeight < 200) at.scrollTop = at.scrollHeight;
  }, [text]);
  return html`<section class="card">
    <header><h2>What its worker writes</h2><span class="dim">as it happens</span></header>
    ${problem ? html`<p class="problem">${problem}</p>` : html`<pre class="log" tabindex="0" ref=${box}>${text.join("\n") || "nothing yet"}</pre>`}
  </section>`;
}
