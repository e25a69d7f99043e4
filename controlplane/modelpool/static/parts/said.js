// One message of a conversation: what was said, what it took, and how a program says the same.
import { html, count, seconds } from "../lib.js";
import { Copied } from "./copied.js";
import { Markdown } from "./markdown.js";

const textOf = (content) => (typeof content === "string" ? content : content.filter((p) => p.type === "text").map((p) => p.text).join("\n"));
const picturesOf = (content) => (typeof content === "string" ? [] : content.filter((p) => p.type === "image_url").map((p) => p.image_url.url));

export function Message({ message, prices, again }) {
  const { role, content, reasoning, waits, problem, note, ignored, cost, isOpen, body } = message;
  if (role === "user") {
    return html`<div class="said user">${picturesOf(content).map((url) => html`<img src=${url} alt="attached" />`)}${textOf(content)}</div>`;
  }
  return html`<div class="said assistant" aria-busy=${isOpen}>
    ${reasoning && html`<details open=${isOpen && !content}><summary class="dim">Thinking</summary><div class="dim">${reasoning}</div></details>`}
    <${Markdown} text=${content} />
    ${isOpen && !content && html`<span class="dim">${waits || "…"}</span>`}
    ${problem && html`<p class="problem">${problem}</p>`}
    ${note && html`<p class="dim">${note}</p>`}
    ${ignored && html`<p class="dim">ignored by this engine: ${ignored}</p>`}
    ${cost && !isOpen && html`<${Cost} cost=${cost} prices=${prices} />`}
    ${again && !isOpen && html`<button class="small" onClick=${again}>Try again</button>`}
    ${!isOpen && body && html`<details><summary class="sub">The same by program</summary><${Programs} body=${body} /></details>`}
  </div>`;
}

// Prices are of a million tokens, and of a request (docs/remote.md).
function priceOf({ input = 0, output = 0, cached_input = input, request = 0 }, prompt, cached, tokens) {
  return ((prompt - cached) * input + cached * cached_input + tokens * output) / 1e6 + request;
}

function Cost({ cost, prices }) {
  const { first, total, tokens, prompt, timings } = cost;
  const read = Math.min(first ?? total, (timings?.prompt_ms ?? 0) / 1000);
  const waited = Math.max(0, (first ?? total) - read);
  const wrote = Math.max(0, total - (first ?? total));
  const part = (value) => `width:${(100 * value) / (total || 1)}%`;
  const price = priceOf(prices ?? {}, prompt ?? 0, cost.cached ?? 0, tokens);
  return html`<div>
    <div class="phases" role="img" aria-label=${`waited ${seconds(waited)}, read ${seconds(read)}, wrote ${seconds(wrote)}`}>
      <i class="wait" style=${part(waited)}></i><i class="prompt" style=${part(read)}></i><i class="answer" style=${part(wrote)}></i>
    </div>
    <div class="sub">
      ${count(tokens)} tokens in ${seconds(total)}${wrote > 0 && ` · ${count(tokens / wrote)} tokens/s`} · first after ${seconds(first)}
      ${prompt !== undefined && prompt !== null && ` · ${count(prompt)} read`}${price > 0 && ` · ${price.toFixed(6)} ${prices.currency ?? "USD"}`}
    </div>
  </div>`;
}

function Programs({ body }) {
  const base = `${location.origin}/v1`;
  const data = JSON.stringify(body, null, 2);
  const curl = `curl ${base}/chat/completions \\\n  -H 'Content-Type: application/json' \\\n  -d '${data.replaceAll("'", "'\\''")}'`;
  const rest = Object.entries(body).filter(([name]) => name !== "model" && name !== "messages");
  const more = rest.map(([name, value]) => `    ${name}=${JSON.stringify(value)},\n`).join("");
  const python = `from openai import OpenAI

client = OpenAI(base_url="${base}", api_key="none")
answer = client.chat.completions.create(
    model=${JSON.stringify(body.model)},
    messages=${JSON.stringify(body.messages, null, 4).replaceAll("\n", "\n    ")},
${more})
print(answer.choices[0].message.content)`;
  return html`<${Copied} title="curl" text=${curl} /><${Copied} title="Python" text=${python} />`;
}
