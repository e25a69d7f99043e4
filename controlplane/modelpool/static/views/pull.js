// What is on this machine's disk, what can be fetched, and the jobs that do it.
import { html, useAnswer, useState, clock, memory, modelLink } from "../lib.js";
import { get, post, remove } from "../api.js";
import { refresh, useLive } from "../live.js";
import { attempt, notify } from "../notices.js";

export function Pull() {
  const live = useLive();
  const turn = live.events.find((e) => /^(job|model-(registered|deleted|changed|found))/.test(e.event))?.id;
  const jobs = useAnswer(() => get("jobs"), [turn, live.at]);
  return html`
    <div class="head"><h1>Find & pull</h1></div>
    <div class="two">
      <${PullForm} onBegun=${jobs.reload} />
      <${DiscoverForm} onBegun=${jobs.reload} />
    </div>
    <${Jobs} jobs=${jobs.data?.jobs ?? []} error=${jobs.error} onChanged=${jobs.reload} />
    <${Disk} turn=${turn} />
  `;
}

function PullForm({ onBegun }) {
  const [source, setSource] = useState("");
  const begin = (event) => {
    event.preventDefault();
    attempt(async () => {
      const job = await post("models/pull", { source: source.trim() });
      notify(`fetching ${job.subject ?? source}`);
      setSource("");
      refresh();
      onBegun();
    });
  };
  return html`<section class="card" aria-labelledby="pull">
    <header><h2 id="pull">Fetch a model</h2></header>
    <form class="row" onSubmit=${begin}>
      <div class="field grow">
        <label for="source">From a hub, a registry, an address, or a file of yours</label>
        <input id="source" value=${source} placeholder="hf:owner/repo:Q4_K_M" onInput=${(e) => setSource(e.target.value)} />
      </div>
      <button class="main" disabled=${!source.trim()}>Pull</button>
    </form>
    <p class="sub"><code>hf:owner/repo[:quantisation]</code>, <code>ollama:name[:tag]</code>, <code>https://…</code> or <code>/path/to/model.gguf</code>, which stays where it is. It goes on if this page is closed.</p>
  </section>`;
}

function DiscoverForm({ onBegun }) {
  const { data, reload } = useAnswer(() => get("discover?limit=200"));
  const [path, setPath] = useState("");
  const [looked, setLooked] = useState(""); // in which folder, at last
  const begin = (event) => {
    event.preventDefault();
    attempt(async () => {
      await post("discover?wait=30", path.trim() ? { paths: [path.trim()] } : {});
      setLooked(path.trim());
      refresh();
      onBegun();
      reload();
    });
  };
  const found = (data?.findings ?? []).filter((f) => f.model_id && `${f.path}/`.startsWith(`${looked.replace(/\/+$/, "")}/`));
  const broken = data?.findings.filter((f) => f.kind === "broken") ?? [];
  return html`<section class="card" aria-labelledby="discover">
    <header><h2 id="discover">Look on the disk</h2><span class="dim">${data ? `${data.counts.model ?? 0} models found` : ""}</span></header>
    <form class="row" onSubmit=${begin}>
      <div class="field grow">
        <label for="folder">A folder; nothing: those that are known</label>
        <input id="folder" value=${path} placeholder="/home/you/models" onInput=${(e) => setPath(e.target.value)} />
      </div>
      <button>Look</button>
    </form>
    ${data?.roots.map((r) => html`<div class="sub" key=${r.path}>${r.path}: ${r.state}${r.reason && `, ${r.reason}`}</div>`)}
    ${looked && found.length === 0 && html`<p class="sub">No model was found in ${looked}. A single file goes into the field beside this one.</p>`}
    ${looked && found.length > 0 && html`<ul class="plain">${found.slice(0, 20).map((f) => html`<li key=${f.path}><b>${f.model_id}</b> <span class="sub">${memory(f.size_mb)}</span> <${TryIt} id=${f.model_id} /></li>`)}</ul>`}
    ${broken.length > 0 &&
    html`<details><summary class="problem">${broken.length} files cannot be used</summary>${broken.map((f) => html`<div class="sub">${f.path}: ${f.reason}</div>`)}</details>`}
  </section>`;
}

const TryIt = ({ id }) => html`<a href=${`#/try?model=${encodeURIComponent(id)}`} aria-label=${`Try ${id}`}>Try it</a>`;

const ENDED = ["succeeded", "failed", "cancelled"];

function Jobs({ jobs, error, onChanged }) {
  const act = (job, verb) => attempt(() => post(`jobs/${job.job_id}/${verb}`)).then(onChanged);
  const forget = (job) => attempt(() => remove(`jobs/${job.job_id}`)).then(onChanged);
  return html`<section class="card" aria-labelledby="jobs">
    <header><h2 id="jobs">Jobs</h2></header>
    ${error && html`<p class="problem">${error.message}</p>`}
    ${!jobs.length && html`<p class="dim">Nothing was asked for yet.</p>`}
    ${jobs.length > 0 &&
    html`<div class="scroll"><table>
      <thead><tr><th scope="col">Job</th><th scope="col">State</th><th scope="col" class="wide">Since</th><th scope="col"><span class="skip">Actions</span></th></tr></thead>
      <tbody>
        ${jobs.map(
          (job) => html`<tr key=${job.job_id}>
            <td><span class="name">${job.kind} ${job.subject}</span><div class="sub">${ENDED.includes(job.state) ? "" : job.progress.text}</div></td>
            <td>
              ${job.state}${job.state === "running" && job.progress.fraction !== null ? ` ${Math.round(100 * job.progress.fraction)} %` : ""}
              ${job.state === "running" && html`<progress value=${job.progress.fraction} max="1" aria-label=${`${job.kind} of ${job.subject}`}></progress>`}
              ${job.state === "succeeded" && job.result?.reasons?.length > 0 && html`<div class="sub">${job.result.reasons.join("; ")}</div>`}
              ${job.reason && html`<div class=${`sub ${job.state === "failed" ? "problem" : ""}`}>${job.reason}</div>`}
            </td>
            <td class="wide">${clock(job.created_at)}</td>
            <td class="n">
              ${job.state === "running" && job.kind === "pull" && html`<button onClick=${() => act(job, "pause")}>Pause</button> `}
              ${job.state === "succeeded" && job.result?.model_id && html`<${TryIt} id=${job.result.model_id} /> `}
              ${["paused", "failed"].includes(job.state) && html`<button onClick=${() => act(job, "resume")}>Resume</button> `}
              ${ENDED.includes(job.state)
                ? html`<button onClick=${() => forget(job)}>Forget</button>`
                : html`<button onClick=${() => act(job, "cancel")}>Cancel</button>`}
            </td>
          </tr>`,
        )}
      </tbody>
    </table></div>`}
  </section>`;
}

function Disk({ turn }) {
  const { data } = useAnswer(() => get("disk"), [turn]);
  if (!data) return null;
  const held = data.models.filter((m) => m.bytes).sort((a, b) => b.bytes - a.bytes);
  return html`<section class="card" aria-labelledby="disk">
    <header><h2 id="disk">On the disk</h2><span class="dim">${memory(data.free_bytes / 1e6)} free · pulled ${memory(data.pulled_bytes / 1e6)}</span></header>
    <div class="scroll"><table>
      <thead><tr><th scope="col">Model</th><th scope="col" class="wide">Place</th><th scope="col" class="n">Size</th></tr></thead>
      <tbody>
        ${held.slice(0, 100).map(
          (m) => html`<tr key=${m.model_id}>
            <td><a class="name" href=${modelLink(m.model_id)}>${m.model_id}</a></td><td class="wide sub">${m.source}</td><td class="n">${memory(m.bytes / 1e6)}</td>
          </tr>`,
        )}
      </tbody>
    </table></div>
  </section>`;
}
