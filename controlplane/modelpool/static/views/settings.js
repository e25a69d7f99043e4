// What the pool was told, what of it can be changed at once, and what this machine can use.
import { html, useAnswer, useState } from "../lib.js";
import { get, patch, post } from "../api.js";
import { attempt, notify } from "../notices.js";
import { Trouble } from "../parts/trouble.js";

const shown = (value) => (value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));
const SOURCES = [["", "all keys"], ["said", "what somebody has set"], ["restart", "what waits for a restart"]];

export function Settings() {
  return html`
    <div class="head"><h1>Settings</h1></div>
    <${Trouble} />
    <${Engines} />
    <${Devices} />
    <${Config} />
  `;
}

function Config() {
  const { data, error, reload } = useAnswer(() => get("config/sources"));
  const [text, setText] = useState("");
  const [which, setWhich] = useState("");
  const [edited, setEdited] = useState(null);
  const save = (event) => {
    event.preventDefault();
    let value = edited.text;
    try {
      value = JSON.parse(value);
    } catch {
      // a text is meant
    }
    attempt(async () => {
      await patch("config", { [edited.name]: value });
      notify(`${edited.name} counts from now on, until the pool is started anew`);
      setEdited(null);
      reload();
    });
  };
  const readAgain = () => attempt(async () => (await post("config/reload"), notify("The file was read again"), reload()));
  if (error) return html`<p class="problem">${error.message}</p>`;
  if (!data) return null;
  const isWanted = { "": () => true, said: (k) => k.source !== "default", restart: (k) => "after_restart" in k }[which];
  const rows = Object.entries(data.keys).filter(([name, key]) => isWanted(key) && name.includes(text.trim().toLowerCase()));
  return html`<section class="card" aria-labelledby="config">
    <header>
      <h2 id="config">Configuration</h2>
      <span class="row">
        <select aria-label="Which keys" value=${which} onChange=${(e) => setWhich(e.target.value)}>${SOURCES.map(([value, title]) => html`<option value=${value}>${title}</option>`)}</select>
        <input type="search" placeholder="Filter" aria-label="Filter keys" value=${text} onInput=${(e) => setText(e.target.value)} />
        <button onClick=${readAgain}>Read the file again</button>
      </span>
    </header>
    <p class="dim">${data.file ? html`The config file is <code>${data.file}</code>.` : "The pool was started without a config file."}</p>
    ${!rows.length && html`<p class="dim">No such key.</p>`}
    <div class="scroll"><table>
      <thead><tr><th scope="col">Key</th><th scope="col">Value</th><th scope="col" class="wide">Comes from</th><th scope="col"><span class="skip">Change</span></th></tr></thead>
      <tbody>
        ${rows.map(
          ([name, key]) => html`<tr key=${name}>
            <td><code>${name}</code></td>
            <td class="value">
              ${shown(key.value)}
              ${key.source !== "default" && html`<div class="sub">default: ${shown(key.default) || "nothing"}</div>`}
              ${"after_restart" in key && html`<div class="sub problem">${shown(key.after_restart) || "nothing"} after a restart</div>`}
            </td>
            <td class="wide sub">${place(key, data.file)}</td>
            <td class="n">
              ${edited?.name === name
                ? html`<form class="row" onSubmit=${save}>
                    <input aria-label=${`value of ${name}`} value=${edited.text} onInput=${(e) => setEdited({ name, text: e.target.value })} />
                    <button class="main">Save</button><button type="button" onClick=${() => setEdited(null)}>Cancel</button>
                  </form>`
                : key.live
                  ? html`<button aria-label=${`Change ${name}`} onClick=${() => setEdited({ name, text: shown(key.value) })}>Change</button>`
                  : html`<span class="sub">needs a restart</span>`}
            </td>
          </tr>`,
        )}
      </tbody>
    </table></div>
  </section>`;
}

function place({ source, place: said }, file) {
  if (source === "default") return "default";
  if (source === "runtime") return "changed while it runs; a restart forgets it";
  return said === file ? "the config file" : said;
}

function Engines() {
  const { data, error } = useAnswer(() => get("engines"));
  if (error) return html`<p class="problem">${error.message}</p>`;
  if (!data) return null;
  const order = [...data.engines].sort((a, b) => Number(b.usable) - Number(a.usable) || a.name.localeCompare(b.name));
  return html`<section class="card" aria-labelledby="engines">
    <header><h2 id="engines">Engines</h2><span class="dim">${order.filter((e) => e.usable).length} can be used here</span></header>
    <div class="scroll"><table>
      <thead><tr><th scope="col">Engine</th><th scope="col">Usable</th><th scope="col" class="wide">Formats</th></tr></thead>
      <tbody>
        ${order.map(
          (e) => html`<tr key=${e.name}>
            <td><span class="name">${e.name}</span><div class="sub">${e.version}</div></td>
            <td>${e.usable ? "yes" : html`<span>no: ${e.reason}</span>${e.install_hint && html`<div class="sub"><code>${e.install_hint}</code></div>`}`}</td>
            <td class="wide sub">${e.formats.filter((f) => f !== "none").join(", ")}</td>
          </tr>`,
        )}
      </tbody>
    </table></div>
  </section>`;
}

function Devices() {
  const { data } = useAnswer(() => get("devices"));
  if (!data) return null;
  const none = data.vendors.map((v) => v.reason).filter(Boolean).join("; ");
  return html`<section class="card" aria-labelledby="devices">
    <header><h2 id="devices">Devices</h2></header>
    ${data.devices.length ? data.devices.map((d) => html`<div key=${d.id}><b>${d.name}</b> <span class="sub">${d.id}</span></div>`) : html`<p class="dim">No GPU: ${none}.</p>`}
  </section>`;
}
