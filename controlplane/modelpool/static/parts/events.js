// Events with their reasons.
import { html, clock, modelLink } from "../lib.js";

const WORDS = {
  "model-loading": "is warming",
  "model-loaded": "is hot",
  "model-cooling": "is cooling",
  "model-unloading": "is leaving",
  "model-unloaded": "has left",
  "model-asleep": "fell asleep",
  "model-not-asleep": "could not fall asleep",
  "model-not-woken": "could not be woken",
  "model-failed": "failed",
  "model-evicted": "was evicted",
  "model-registered": "was registered",
  "model-deleted": "was deleted",
  "model-changed": "was changed",
};

const told = (name) => WORDS[name] ?? name.replace(/^model-/, "").replaceAll("-", " ");

export function EventList({ events, none = "Nothing has happened yet." }) {
  if (!events.length) return html`<p class="dim">${none}</p>`;
  return html`<div>
    ${events.map(
      (e) => html`<div class="event" key=${e.id}>
        <time datetime=${e.at} title=${e.at}>${clock(e.at)}</time>
        <b>${e.model_id ? html`<a class="name" href=${modelLink(e.model_id)}>${e.model_id}</a> ` : ""}${told(e.event)}</b>
        ${e.reason && html`<span class="why">${e.reason}</span>`}
      </div>`,
    )}
  </div>`;
}
