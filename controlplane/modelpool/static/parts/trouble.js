// What is wrong, or will be soon: alerts, with those who are told of them, and models that failed.
import { html, useAnswer, modelLink, when } from "../lib.js";
import { get, post, remove } from "../api.js";
import { useLive } from "../live.js";
import { attempt, notify } from "../notices.js";

const SILENT_MINUTES = 120;
const COLOURS = { critical: "failed", warning: "warming", info: "cooling" };

export function Trouble() {
  const live = useLive();
  const { data, error, reload } = useAnswer(() => get("alerts"), [live.events.find((e) => e.event.startsWith("alert-"))?.id]);
  const failed = live.models.filter((m) => m.state === "FAILED");
  const alerts = (data?.alerts ?? []).filter((a) => a.status !== "resolved");
  const pressure = live.health?.memory_pressure;
  const silence = ({ alert, labels }) =>
    attempt(async () => {
      const model = labels.model ? { model: labels.model } : {};
      await post("alerts/silences", { matchers: { alertname: alert, ...model }, minutes: SILENT_MINUTES, comment: "from the page" });
      notify(`nobody is told of ${alert} for two hours`);
      reload();
    });
  const end = (id) => attempt(() => remove(`alerts/silences/${encodeURIComponent(id)}`)).then(reload);
  const test = () =>
    attempt(async () => {
      const { targets } = await post("alerts/test");
      const missed = targets.filter((t) => !t.arrived).map((t) => `${t.target}: ${t.problem}`);
      if (missed.length) throw new Error(missed.join("; "));
      notify("all targets have taken the message");
      reload();
    });
  return html`<section class="card trouble" aria-labelledby="trouble">
    <header>
      <h2 id="trouble">What is wrong</h2>
      ${data?.targets.length > 0 && html`<span class="dim small">told: ${data.targets.map((t) => t.name).join(", ")} <button onClick=${test}>Send a test</button></span>`}
    </header>
    ${error && html`<p class="problem">${error.message}</p>`}
    ${!pressure && !alerts.length && !failed.length && html`<p class="dim">Nothing that the pool knows of.${data && !data.targets.length && " Nobody would be told of it: there are no targets in the config file."}</p>`}
    ${pressure && html`<p class="problem">${pressure}</p>`}
    ${alerts.map(
      (a) => html`<div class="row" key=${a.fingerprint}>
        <span class="grow"><span class=${`state ${COLOURS[a.severity]}`}>${a.alert}</span> ${a.labels.model && html`<a href=${modelLink(a.labels.model)}>${a.labels.model}</a>`}
          <span class="sub"> ${a.status}, ${a.severity}, since ${when(a.fired_at ?? a.active_at)}: ${a.reason}</span></span>
        ${a.silenced_by ? html`<button aria-label=${`Tell of ${a.alert} again`} onClick=${() => end(a.silenced_by)}>Tell again</button>` : html`<button aria-label=${`Silence ${a.alert}`} onClick=${() => silence(a)}>Silence 2 h</button>`}
      </div>`,
    )}
    ${failed.map((m) => html`<div key=${m.model_id}><span class="state failed"><a href=${modelLink(m.model_id, "log")}>${m.model_id}</a></span> <span class="sub">${m.failure?.code}: ${m.failure?.message ?? m.reason}</span></div>`)}
    ${data?.targets.filter((t) => t.problem).map((t) => html`<p class="problem" key=${t.name}>${t.name} is not reached: ${t.problem}</p>`)}
  </section>`;
}
