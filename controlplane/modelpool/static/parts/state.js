// A model's state in a word, its lease, its load: the same wherever a model is shown.
import { html, duration, memory, useNow } from "../lib.js";

export function State({ model }) {
  const { state, progress, failure } = model;
  const name = state.toLowerCase();
  const part = progress?.fraction ?? null;
  return html`<span class=${`state ${name}`}>${name}${part !== null ? ` ${Math.round(part * 100)} %` : ""}</span>
    ${part !== null && html`<progress value=${part} max="1" aria-label=${`load of ${model.model_id}`}></progress>`}
    ${state === "WARMING" && html`<div class="sub">${left(progress)}</div>`}
    ${model.sleeping && html`<div class="sub">asleep, holding ${memory(model.sleeping.memory_mb)}</div>`}
    ${failure && html`<div class="sub problem">${failure.code}</div>`}`;
}

function left(progress) {
  if (!progress) return "";
  const about = progress.estimated ? "about " : "";
  const rest = progress.eta_seconds === null || progress.eta_seconds === undefined ? "" : `, ${about}${Math.ceil(progress.eta_seconds)} s left`;
  return `${progress.stage}${rest}`;
}

// Counts down by itself between two readings.
export function Lease({ model, fullMinutes }) {
  const now = useNow();
  if (!model.expires_at) {
    const isServing = model.state === "HOT" || model.state === "COOLING";
    return html`<span class="sub">${isServing ? (model.in_flight ? "in use" : "stays") : "–"}</span>`;
  }
  const rest = Math.max(0, (new Date(model.expires_at) - now) / 1000);
  const part = Math.min(100, (100 * rest) / (60 * (model.ttl_minutes ?? fullMinutes ?? 15)));
  return html`<span title="until it may leave, unless it is used">
    <i class=${`ring ${model.state.toLowerCase()}`} style=${`background:conic-gradient(var(--c) ${part}%,var(--line) 0)`}></i>${duration(rest)}
  </span>`;
}

export function Spark({ samples }) {
  if (!samples || samples.length < 2 || !samples.some((s) => s > 0)) return null;
  const top = Math.max(...samples);
  const step = 72 / (samples.length - 1);
  const path = samples.map((s, i) => `${i ? "L" : "M"}${(i * step).toFixed(1)} ${(18 - (16 * s) / top).toFixed(1)}`).join("");
  return html`<svg class="spark" viewBox="0 0 72 20" aria-hidden="true"><path d=${path} /></svg>`;
}
