// What was used, by hour where that is kept, else by day.
import { html, useAnswer, useMemo, count } from "../lib.js";
import { get, query } from "../api.js";
import { Chart } from "./chart.js";

const HOUR = 3600;
const DAY = 24 * HOUR;
const HOURS_KEPT_DAYS = 7; // later only days are known (docs/usage.md)

const money = (value) => value.toLocaleString("en-US", { maximumFractionDigits: value < 1 ? 4 : 2 });
export const MEASURES = {
  tokens: { title: "Tokens", of: (r) => r.prompt_tokens + r.completion_tokens, show: count },
  requests: { title: "Requests", of: (r) => r.requests, show: count },
  cost: { title: "Cost", of: (r) => r.cost, show: (value) => (value ? money(value) : "–") },
};

// The first hour or day of so many days, as the API takes it; empty for all.
export const since = (days) => (days ? new Date(Date.now() - (days - 1) * DAY * 1000).toISOString().slice(0, 10) : "");

// A bar for each step, those without use too.
function filled(rows, of, step, first) {
  const sums = new Map();
  for (const row of rows) {
    const at = Date.parse(row.hour ?? row.day) / 1000;
    sums.set(at, (sums.get(at) ?? 0) + of(row));
  }
  const start = first ?? Math.min(...sums.keys());
  const times = [];
  for (let at = start - (start % step); at <= Date.now() / 1000; at += step) times.push(at);
  return [times, times.map((at) => sums.get(at) ?? 0)];
}

export function UsageChart({ days, measure, model = "" }) {
  const isByDay = !days || days > HOURS_KEPT_DAYS;
  const from = since(days);
  const { data, error } = useAnswer(() => get(`usage${query({ by: isByDay ? "day" : "hour", since: from, model })}`), [days, model]);
  const { title, of, show } = MEASURES[measure];
  const drawn = useMemo(
    () => data?.rows.length && filled(data.rows, of, isByDay ? DAY : HOUR, from ? Date.parse(from) / 1000 : null),
    [data, measure, isByDay],
  );
  if (error) return html`<p class="problem">${error.message}</p>`;
  if (!data) return html`<p class="dim">…</p>`;
  if (!drawn) return html`<p class="dim">Nothing was used in that time.</p>`;
  return html`<${Chart} title=${`${title} by ${isByDay ? "day" : "hour"}`} data=${drawn} show=${show} isBars=${true} isByDay=${isByDay} />`;
}
