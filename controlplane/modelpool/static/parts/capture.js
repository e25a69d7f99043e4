// What was said in requests: whether that is kept, and what it was. Nothing of it is shown, or asked
// for, unless somebody has switched it on.
import { html, useAnswer, useNow, useState, count, duration } from "../lib.js";
import { get, post, remove } from "../api.js";
import { attempt, confirmed, notify } from "../notices.js";
import { Copied } from "./copied.js";

const SPANS = [5, 10, 30, 60];

export function Capture({ capture, model, reload }) {
  const [minutes, setMinutes] = useState(10);
  const offered = SPANS.filter((span) => span <= capture.max_minutes);
  const start = () =>
    attempt(async () => {
      const whose = model ? `${model} is asked and answers` : "all models are asked and answer";
      const text = `What ${whose} is kept in the pool's memory for ${minutes} minutes, for everybody who can open this page. What looks like a key or a password is left out.`;
      if (!(await confirmed("Capture what is said?", text, "Capture"))) return;
      await post("requests/capture", { minutes, models: model ? [model] : null });
      notify("What is said from now on is kept");
      reload();
    });
  const stop = () => attempt(async () => (await remove("requests/capture"), notify("What was captured is forgotten"), reload()));
  return html`<span class="row">
    ${capture.on && html`<span class="capturing"><${Left} endsAt=${capture.ends_at} models=${capture.models} /></span>`}
    ${!capture.on &&
    offered.length > 0 &&
    html`<select aria-label="Capture for" value=${minutes} onChange=${(e) => setMinutes(Number(e.target.value))}>
        ${offered.map((span) => html`<option value=${span}>${span} min</option>`)}
      </select>
      <button onClick=${start}>Capture what is said${model && ` to ${model}`}</button>`}
    ${(capture.on || capture.captured > 0) &&
    html`<button onClick=${stop}>${capture.on ? "Stop and forget" : `Forget ${count(capture.captured)} captured`}</button>`}
  </span>`;
}

function Left({ endsAt, models }) {
  const now = useNow();
  return html`capturing ${models ? models.join(", ") : "all models"}, ${duration((new Date(endsAt) - now) / 1000)} left`;
}

export function Content({ number }) {
  const { data, error } = useAnswer(() => get(`requests/${number}`), [number]);
  if (error) return html`<p class="problem">${error.message}</p>`;
  if (!data) return html`<p class="dim">…</p>`;
  if (!data.content) return html`<p class="dim">What was said is kept no more.</p>`;
  const { method, target, request, answer, curl } = data.content;
  return html`<div class="two">
      <${Said} title=${`${method} ${target}`} message=${request} />
      <${Said} title=${`Answer ${data.status}`} message=${answer} />
    </div>
    ${curl
      ? html`<${Copied} title="The same again" text=${curl} />`
      : html`<p class="dim">It cannot be asked again from here: not all of it was kept, or a key was left out.</p>`}`;
}

function Said({ title, message }) {
  const heads = Object.entries(message.headers).map(([name, value]) => `${name}: ${value}`);
  return html`<div>
    <b>${title}</b>
    <pre tabindex="0" class="log">${[...heads, "", readable(message.body)].join("\n")}</pre>
    ${!message.is_whole && html`<div class="sub">not all of ${count(message.size_bytes)} bytes</div>`}
  </div>`;
}

function readable(body) {
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body;
  }
}
