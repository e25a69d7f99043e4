// What models were used for, and what that cost, by day.
import { html, useAnswer, useState, count, modelLink } from "../lib.js";
import { get, query } from "../api.js";
import { MEASURES, since, UsageChart } from "../parts/usage_chart.js";

const SPANS = [[1, "today"], [7, "7 days"], [30, "30 days"], [90, "90 days"], [0, "all that is kept"]];

function money(value, currency) {
  if (!value) return "–";
  return `${value.toLocaleString("en-US", { maximumFractionDigits: value < 1 ? 4 : 2 })} ${currency}`.trim();
}

export function Usage() {
  const [days, setDays] = useState(7);
  const [measure, setMeasure] = useState("tokens");
  const { data, error } = useAnswer(() => get(`usage${query({ by: "model,day", since: since(days) })}`), [days]);
  const rows = data?.rows ?? [];
  return html`
    <div class="head"><h1>Usage</h1></div>
    <section class="card" aria-labelledby="total">
      <header><h2 id="total">In all</h2><a href=${`usage${query({ format: "csv", since: since(days) })}`} download="usage.csv">CSV</a></header>
      <div class="row">
        <div class="field"><label for="span">Time (days in UTC)</label>
          <select id="span" value=${days} onChange=${(e) => setDays(Number(e.target.value))}>${SPANS.map(([value, text]) => html`<option value=${value}>${text}</option>`)}</select>
        </div>
        <div class="field"><label for="measure">Bars show</label>
          <select id="measure" value=${measure} onChange=${(e) => setMeasure(e.target.value)}>${Object.entries(MEASURES).map(([value, { title }]) => html`<option value=${value}>${title.toLowerCase()}</option>`)}</select>
        </div>
      </div>
      ${error && html`<p class="problem">${error.message}</p>`}
      ${data && !rows.length && html`<p class="dim">Nothing was used in that time.</p>`}
      ${data?.totals.map((t) => html`<p key=${t.currency}>
        ${count(t.requests)} requests, ${count(t.errors)} of them failed · ${count(t.prompt_tokens)} tokens read (${count(t.cached_tokens)} cached), ${count(t.completion_tokens)} written${t.cost > 0 && ` · ${money(t.cost, t.currency)}`}
        ${t.estimated_requests > 0 && html`<span class="dim"> · tokens of ${count(t.estimated_requests)} requests are estimated</span>`}
      </p>`)}
    </section>
    ${rows.length > 0 &&
    html`<section class="card" aria-labelledby="time">
      <header><h2 id="time">Over time</h2></header>
      <${UsageChart} days=${days} measure=${measure} />
    </section>`}
    ${rows.length > 0 && html`<${Table} title="By model" id="models" rows=${grouped(rows, "model")} part="model" measure=${MEASURES[measure]} />`}
    ${rows.length > 0 && html`<${Table} title="By day" id="days" rows=${grouped(rows, "day")} part="day" measure=${MEASURES[measure]} />`}
  `;
}

// One row for each value of a part and currency.
function grouped(rows, part) {
  const found = new Map();
  for (const row of rows) {
    const key = `${row[part]}\n${row.currency}`;
    const sum = found.get(key);
    if (!sum) found.set(key, { ...row });
    else for (const name of Object.keys(row)) if (typeof row[name] === "number") sum[name] += row[name];
  }
  return [...found.values()];
}

function Table({ title, id, rows, part, measure }) {
  const most = Math.max(...rows.map(measure.of));
  const sorted = part === "model" ? [...rows].sort((a, b) => measure.of(b) - measure.of(a)) : rows;
  return html`<section class="card" aria-labelledby=${id}>
    <header><h2 id=${id}>${title}</h2></header>
    <div class="scroll" tabindex="0"><table>
      <thead><tr>
        <th scope="col">${part === "model" ? "Model" : "Day"}</th><th scope="col" class="phased">${measure.title}</th><th scope="col" class="n">Requests</th>
        <th scope="col" class="n wide">Read</th><th scope="col" class="n wide">Written</th><th scope="col" class="n">Cost</th>
      </tr></thead>
      <tbody>${sorted.slice(0, 200).map(
        (r) => html`<tr key=${`${r[part]} ${r.currency}`}>
          <td>${part === "model" ? html`<a class="name" href=${modelLink(r.model)}>${r.model}</a>` : r.day}</td>
          <td class="phased"><div class="phases" role="img" aria-label=${`${measure.title.toLowerCase()}: ${measure.show(measure.of(r))}`}><i class="answer" style=${`width:${(100 * measure.of(r)) / (most || 1)}%`}></i></div></td>
          <td class="n">${count(r.requests)}${r.errors > 0 && html`<div class="sub problem">${count(r.errors)} failed</div>`}</td>
          <td class="n wide">${count(r.prompt_tokens)}${r.cached_tokens > 0 && html`<div class="sub">${count(r.cached_tokens)} cached</div>`}</td>
          <td class="n wide">${count(r.completion_tokens)}</td>
          <td class="n">${money(r.cost, r.currency)}</td>
        </tr>`,
      )}</tbody>
    </table></div>
  </section>`;
}
