// Names that are no models, and why a request would be answered by whom.
import { html, useAnswer, useState, modelLink } from "../lib.js";
import { get, post, put, remove } from "../api.js";
import { useLive } from "../live.js";
import { attempt, confirmed, notify } from "../notices.js";

const path = (name) => `virtual-models/${encodeURIComponent(name)}`;

export function Routing() {
  const live = useLive();
  const turn = live.events.find((e) => e.event.startsWith("virtual-model"))?.id;
  const names = useAnswer(() => get("virtual-models"), [turn]);
  const listed = names.data?.virtual_models ?? [];
  return html`
    <div class="head"><h1>Routing</h1></div>
    <${Names} listed=${listed} error=${names.error} onChanged=${names.reload} />
    <div class="two">
      <${Write} onChanged=${names.reload} />
      <${Why} names=${listed.map((each) => each.name)} />
    </div>
  `;
}

function Names({ listed, error, onChanged }) {
  const drop = (name) =>
    attempt(async () => {
      if (!(await confirmed(`Delete ${name}?`, "Requests for it are refused then; it can be had back by its versions.", "Delete"))) return;
      await remove(path(name));
      onChanged();
    });
  const undo = (each) =>
    attempt(async () => {
      await post(`${path(each.name)}/rollback`);
      notify(`${each.name} says again what it said before`);
      onChanged();
    });
  return html`<section class="card" aria-labelledby="names">
    <header><h2 id="names">Names that stand for models</h2></header>
    ${error && html`<p class="problem">${error.message}</p>`}
    ${!listed.length && html`<p class="dim">There is none yet. An alias, a list of fallbacks or a weighted set is one step, below.</p>`}
    ${listed.length > 0 &&
    html`<div class="scroll"><table>
      <thead>
        <tr><th scope="col">Name</th><th scope="col">Kind</th><th scope="col">Asks</th><th scope="col" class="wide">Version</th><th scope="col"><span class="skip">Actions</span></th></tr>
      </thead>
      <tbody>
        ${listed.map(
          (each) => html`<tr key=${each.name}>
            <td><span class="name">${each.name}</span><div class="sub">${each.entry.description ?? ""}</div></td>
            <td>${each.kind}</td>
            <td>
              ${each.targets.map((target, i) => html`${i ? ", " : ""}<a href=${modelLink(target)}>${target}</a>`)}
              ${each.missing?.length > 0 && html`<div class="problem sub">not there: ${each.missing.join(", ")}</div>`}
            </td>
            <td class="wide">${each.version}</td>
            <td class="n">
              ${each.version > 1 && html`<button aria-label=${`Undo the last change of ${each.name}`} onClick=${() => undo(each)}>Undo</button>${" "}`}
              <button aria-label=${`Delete ${each.name}`} onClick=${() => drop(each.name)}>Delete</button>
            </td>
          </tr>`,
        )}
      </tbody>
    </table></div>`}
  </section>`;
}

function Write({ onChanged }) {
  const [name, setName] = useState("");
  const [targets, setTargets] = useState("");
  const asked = targets.split(",").map((t) => t.trim()).filter(Boolean);
  const save = (event) => {
    event.preventDefault();
    attempt(async () => {
      const entry = asked.length === 1 ? { kind: "alias", target: asked[0] } : { kind: "fallback", targets: asked };
      const { message } = await put(path(name.trim()), entry);
      notify(message);
      setName("");
      setTargets("");
      onChanged();
    });
  };
  return html`<section class="card" aria-labelledby="write">
    <header><h2 id="write">Make or change one</h2></header>
    <form onSubmit=${save}>
      <div class="row">
        <div class="field grow"><label for="alias">Name; stars stand for anything</label><input id="alias" placeholder="gpt-*" value=${name} onInput=${(e) => setName(e.target.value)} /></div>
        <div class="field grow"><label for="targets">Models, the first of them first</label><input id="targets" placeholder="small, large" value=${targets} onInput=${(e) => setTargets(e.target.value)} /></div>
        <button class="main" disabled=${!name.trim() || !asked.length}>Save</button>
      </div>
    </form>
    <p class="sub">One model is an alias; several are asked one after the other until one answers. Other kinds: <code>poolctl alias set</code>.</p>
  </section>`;
}

function Why({ names }) {
  const [text, setText] = useState("");
  const [name, setName] = useState("");
  const [told, setTold] = useState(null);
  const ask = (event) => {
    event.preventDefault();
    attempt(async () => {
      const body = { model: name || names[0], messages: [{ role: "user", content: text }] };
      setTold(await post("route", body));
    });
  };
  return html`<section class="card" aria-labelledby="why">
    <header><h2 id="why">Whom would it ask, and why?</h2></header>
    <form class="row" onSubmit=${ask}>
      <div class="field"><label for="asked">Name</label><select id="asked" value=${name} onChange=${(e) => setName(e.target.value)}>${names.map((n) => html`<option value=${n}>${n}</option>`)}</select></div>
      <div class="field grow"><label for="request">Request</label><input id="request" value=${text} onInput=${(e) => setText(e.target.value)} /></div>
      <button disabled=${!names.length || !text.trim()}>Ask</button>
    </form>
    ${told && html`<${Decision} told=${told} />`}
  </section>`;
}

const list = (value) => (Array.isArray(value) ? value : value ? [value] : []);

function Decision({ told }) {
  const facts = [
    ["complexity", told.complexity],
    ["difficulty", told.difficulty],
    ["confidence", told.confidence],
  ].filter(([, value]) => value !== undefined && value !== null);
  return html`<div>
    <p><b>${told.model}</b>${facts.map(([name, value]) => html` <span class="chip">${name} ${typeof value === "number" ? value.toFixed(2) : value}</span>`)}</p>
    ${list(told.reasons).map((reason) => html`<div class="sub">${reason}</div>`)}
    ${list(told.fallbacks).length > 0 && html`<div class="sub">if it fails: ${told.fallbacks.join(", ")}</div>`}
    ${Object.entries(told.excluded ?? {}).map(([model, why]) => html`<div class="sub">not ${model}: ${list(why).join("; ")}</div>`)}
  </div>`;
}
