// Conversations of before, as this browser has kept them.
import { html, useState, when } from "../lib.js";
import { chats, forget, forgetAll } from "../chats.js";
import { confirmed } from "../notices.js";

export function Earlier({ present, open }) {
  const [, setTurn] = useState(0);
  const all = chats().filter((c) => c.id !== present);
  if (!all.length) return null;
  const changed = () => setTurn((turn) => turn + 1);
  const clear = async () => {
    const text = `${all.length} conversations are kept in this browser, and nowhere else.`;
    if (await confirmed("Delete all conversations?", text, "Delete")) changed(forgetAll());
  };
  return html`<details class="card">
    <summary>Earlier conversations (${all.length})</summary>
    <ul class="plain">
      ${all.map(
        (c) => html`<li key=${c.id} class="row">
          <button class="grow link" onClick=${() => open(c)}>${c.title || "a picture"}<span class="sub"> ${c.names.join(", ")} · ${when(c.at)}</span></button>
          <button class="small" aria-label=${`Delete ${c.title}`} onClick=${() => changed(forget(c.id))}>Delete</button>
        </li>`,
      )}
    </ul>
    <button onClick=${clear}>Delete all</button>
  </details>`;
}
