// What the pool, or one model, did while this page was open.
import { html, count, memory } from "../lib.js";
import { figures, samples } from "../series.js";
import { Chart } from "./chart.js";

const rate = (value) => (value > 0 && value < 1 ? value.toFixed(2) : count(value));

export function Activity({ id = null }) {
  if (samples.length < 2) return null;
  return html`<section class="card" aria-labelledby="activity">
    <header><h2 id="activity">Over time</h2><span class="dim small">since this page was opened</span></header>
    <div class="charts">
      <${Chart} title="Tokens/s" data=${figures("tokens", id)} show=${rate} color="hot" />
      <${Chart} title="Requests/s" data=${figures("requests", id)} show=${rate} color="cooling" />
      <${Chart} title="Memory of models" data=${figures("memory", id)} show=${memory} color="warming" />
    </div>
  </section>`;
}
