// Talk to a model, or to two side by side, and see what it cost.
import { html, useAnswer, useEffect, useRef, useState } from "../lib.js";
import { get } from "../api.js";
import { obey } from "../chat_commands.js";
import { follow } from "../chat_stream.js";
import { keep } from "../chats.js";
import { useLive } from "../live.js";
import { complain } from "../notices.js";
import { Earlier } from "../parts/earlier.js";
import { Message } from "../parts/said.js";

const MOST_BYTES = 20_000_000;
const newId = () => Date.now().toString(36);

const PARAMETERS = [
  { name: "temperature", title: "Temperature", step: "0.1", min: "0" },
  { name: "top_p", title: "Top p", step: "0.05", min: "0" },
  { name: "max_tokens", title: "Most tokens", step: "1", min: "1" },
  { name: "seed", title: "Seed", step: "1" },
];

// Of whose capabilities nothing is known may be asked.
const isChat = (m) => (!m.capabilities?.length || m.capabilities.includes("chat")) && !m.engine_problem;

// A picture as it is, the text of any other file.
async function partOf(file) {
  if (file.size > MOST_BYTES) throw new Error(`${file.name} is larger than 20 MB`);
  if (file.type.startsWith("image/")) {
    const url = await new Promise((resolve, reject) => {
      const reader = Object.assign(new FileReader(), { onload: () => resolve(reader.result), onerror: () => reject(reader.error) });
      reader.readAsDataURL(file);
    });
    return { type: "image_url", image_url: { url } };
  }
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    return { type: "text", text: `${file.name}:\n\`\`\`\n${text}\n\`\`\`` };
  } catch {
    throw new Error(`${file.name} holds no UTF-8 text`);
  }
}

export function TryIt({ route }) {
  const live = useLive();
  const { data } = useAnswer(() => get("models?limit=1000&fields=model_id,state,capabilities,engine_problem,prices"), [live.health?.total_models]);
  const presets = useAnswer(() => get("presets")).data?.presets ?? {};
  const virtual = useAnswer(() => get("virtual-models"), []).data?.virtual_models ?? [];
  const standIns = virtual.filter((v) => !v.name.includes("*")).map((v) => ({ model_id: v.name, state: v.kind.toUpperCase() }));
  const models = [...(data?.models ?? []).filter(isChat), ...standIns];
  const hot = live.models.find((m) => isChat(m) && m.state === "HOT");
  const [first, setFirst] = useState(route.query.get("model") ?? "");
  const [second, setSecond] = useState("");
  const [isTwo, setTwo] = useState(false);
  const [system, setSystem] = useState("");
  const [said, setSaid] = useState({});
  const [text, setText] = useState("");
  const [attached, setAttached] = useState([]);
  const [told, setTold] = useState("");
  const [chatId, setChatId] = useState(newId);
  const [threads, setThreads] = useState([[], []]);
  const stops = useRef([null, null]);
  const names = [first || hot?.model_id || models[0]?.model_id || "", second].slice(0, isTwo ? 2 : 1);
  const isBusy = threads.some((thread) => thread.at(-1)?.isOpen);

  const change = (side, make) => setThreads((old) => old.map((thread, i) => (i === side ? make(thread) : thread)));
  const amend = (side, facts) => change(side, (thread) => [...thread.slice(0, -1), { ...thread.at(-1), ...facts }]);

  async function ask(side, model, thread) {
    const messages = thread.filter((m) => !m.problem).map(({ role, content }) => ({ role, content }));
    const body = { model, messages: system ? [{ role: "system", content: system }, ...messages] : messages, ...said };
    change(side, () => [...thread, { role: "assistant", content: "", reasoning: "", isOpen: true, body }]);
    const watch = new AbortController();
    stops.current[side] = watch;
    try {
      await follow(body, watch.signal, (facts) => amend(side, facts));
    } catch (error) {
      const isStopped = error.name === "AbortError";
      amend(side, isStopped ? { note: "stopped" } : { problem: error.message });
    }
    amend(side, { isOpen: false });
  }

  function clear() {
    setThreads([[], []]);
    setChatId(newId());
    setTold("");
  }

  function open(chat) {
    setFirst(chat.names[0]);
    setTwo(chat.names.length > 1);
    setSecond(chat.names[1] ?? "");
    setSystem(chat.system);
    setSaid(chat.said);
    setThreads([chat.threads[0], chat.threads[1] ?? []]);
    setChatId(chat.id);
    setTold("");
  }

  // The last question again, to all who have answered it.
  function retry(sides = names.map((_, side) => side)) {
    const answered = sides.filter((side) => threads[side].at(-1)?.role === "assistant");
    if (isBusy || !answered.length) return false;
    answered.forEach((side) => ask(side, names[side], threads[side].slice(0, -1)));
    return true;
  }

  function send(event) {
    event?.preventDefault();
    if (isBusy || (!text.trim() && !attached.length)) return;
    const setParameter = (key, value) => setSaid(({ [key]: _, ...rest }) => (value === undefined ? rest : { ...rest, [key]: value }));
    const talk = { models: models.map((m) => m.model_id), setModel: setFirst, setSystem, setParameter, retry, clear };
    const answer = obey(text.trim(), talk);
    setTold(answer ?? "");
    if (answer === null) {
      if (names.some((n) => !n)) return;
      const own = text.startsWith("//") ? text.slice(1) : text;
      const content = attached.length ? [...attached.map((a) => a.part), { type: "text", text: own }] : own;
      names.forEach((model, side) => ask(side, model, [...threads[side], { role: "user", content }]));
      setAttached([]);
    }
    setText("");
  }

  useEffect(() => {
    if (!isBusy) keep({ id: chatId, names, system, said, threads: threads.slice(0, names.length) });
  }, [isBusy]);

  const onKey = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing && send(event);

  async function attach(event) {
    const files = [...event.target.files];
    event.target.value = "";
    for (const file of files) {
      try {
        const part = await partOf(file);
        setAttached((old) => [...old, { name: file.name, part }]);
      } catch (error) {
        complain(error);
      }
    }
  }

  const sees = names.every((n) => models.find((m) => m.model_id === n)?.capabilities?.includes("vision"));

  return html`
    <div class="head">
      <h1>Try it</h1>
      <label class="row"><input type="checkbox" checked=${isTwo} onChange=${(e) => setTwo(e.target.checked)} /> two models side by side</label>
      ${threads.some((t) => t.length) && html`<button disabled=${isBusy} onClick=${clear}>New conversation</button>`}
    </div>
    <${Earlier} present=${chatId} open=${open} key=${`${chatId} ${isBusy}`} />
    <details class="card">
      <summary>System prompt and parameters</summary>
      <div class="field"><label for="system">System prompt</label><textarea id="system" rows="2" value=${system} onInput=${(e) => setSystem(e.target.value)}></textarea></div>
      <div class="row">
        <div class="field">
          <label for="preset">Preset</label>
          <select id="preset" onChange=${(e) => setSaid(presets[e.target.value] ?? {})}>${["", ...Object.keys(presets)].map((n) => html`<option value=${n}>${n || "the model's own"}</option>`)}</select>
        </div>
        ${PARAMETERS.map(({ name, title, ...limits }) => {
          const set = (e) => setSaid(({ [name]: _, ...rest }) => (e.target.value === "" ? rest : { ...rest, [name]: Number(e.target.value) }));
          return html`<div class="field"><label for=${name}>${title}</label><input id=${name} type="number" ...${limits} style="width:110px" value=${said[name] ?? ""} onInput=${set} /></div>`;
        })}
      </div>
    </details>
    <div class="side">
      ${names.map(
        (name, side) => html`<section class="card" key=${side} aria-label=${`conversation with ${name || "nobody yet"}`}>
          <header>
            <select aria-label=${side ? "second model" : "model"} value=${name} onChange=${(e) => (side ? setSecond : setFirst)(e.target.value)}>
              ${!name && html`<option value="">choose a model</option>`}
              ${models.map((m) => html`<option value=${m.model_id}>${m.model_id}${m.state === "COLD" ? "" : ` (${m.state.toLowerCase()})`}</option>`)}
            </select>
          </header>
          <div class="thread" aria-live="polite">
            ${threads[side].map((message, i) => html`<${Message} key=${i} message=${message} prices=${models.find((m) => m.model_id === name)?.prices} again=${i === threads[side].length - 1 && !isBusy ? () => retry([side]) : null} />`)}
            ${!threads[side].length && html`<p class="dim">${models.length ? "Ask something; a model that is not loaded is loaded first." : "No model here can chat yet."}</p>`}
          </div>
        </section>`,
      )}
    </div>
    <form class="card row" onSubmit=${send}>
      ${told && html`<pre class="told" role="status">${told}</pre>`}
      <textarea class="grow" rows="2" aria-label="Your message" placeholder="Your message; Shift+Enter for a new line, /help for commands" value=${text} onInput=${(e) => setText(e.target.value)} onKeyDown=${onKey}></textarea>
      ${attached.map(
        ({ name, part }, i) => html`<span class="chip" key=${i}>
          ${part.type === "image_url" ? html`<img class="thumb" src=${part.image_url.url} alt=${`attached: ${name}`} />` : name}
          <button class="small" type="button" aria-label=${`Remove ${name}`} onClick=${() => setAttached((old) => old.filter((_, at) => at !== i))}>Remove</button>
        </span>`,
      )}
      <label class="chip attach">${sees ? "File or picture" : "File"} <input class="skip" type="file" multiple accept=${sees ? "image/*,text/*,.md,.json,.csv,.py,.js,.yaml" : "text/*,.md,.json,.csv,.py,.js,.yaml"} onChange=${attach} /></label>
      ${isBusy
        ? html`<button type="button" onClick=${() => stops.current.forEach((s) => s?.abort())}>Stop</button>`
        : html`<button class="main" disabled=${names.some((n) => !n)}>Send</button>`}
    </form>
  `;
}
