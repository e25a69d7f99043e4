// What a load would do, while somebody points at its button: who would leave, what it takes. One
// writer: `foresee`.
import { html, memory, modelPath, useEffect, useState } from "../lib.js";
import { get } from "../api.js";

const PAUSE_MS = 120; // whoever only passes by asks nothing

let plan = null, turn = 0, timer = null;
const readers = new Set();

function tell(told) {
  plan = told;
  for (const reader of readers) reader(told);
}

// The model whose load is thought of; null: none any more.
export function foresee(id) {
  const mine = ++turn;
  clearTimeout(timer);
  if (plan && plan.model_id !== id) tell(null);
  if (!id) return;
  timer = setTimeout(async () => {
    const told = await get(`${modelPath(id)}/plan`).catch(() => null);
    if (mine === turn) tell(told);
  }, PAUSE_MS);
}

export function useOutlook() {
  const [told, setTold] = useState(plan);
  useEffect(() => {
    readers.add(setTold);
    return () => {
      readers.delete(setTold);
      foresee(null); // a button that goes with the view hears of no leave
    };
  }, []);
  return told;
}

// What a button that loads hears. A finger points at nothing before it presses.
export const foreseeing = (id) => ({
  onPointerEnter: (e) => e.pointerType !== "touch" && foresee(id),
  onPointerLeave: () => foresee(null),
  onFocus: (e) => e.target.matches(":focus-visible") && foresee(id),
  onBlur: () => foresee(null),
});

export const victim = (e) => `${e.model_id} (${memory(e.memory_mb)}, ${e.reason})`;
export const freed = (evict) => evict.reduce((sum, e) => sum + e.memory_mb, 0);

// PURE. The same in words.
function inWords({ model_id: id, action, reason, evict, needs }) {
  if (action === "loaded" || action === "join") return `${id}: ${reason}.`;
  if (action !== "start") return `${id} would not start now: ${reason}.`;
  const takes = `${id} would take ${memory(needs.memory_mb)}`;
  if (!evict.length) return `${takes}; nobody has to leave.`;
  return `${takes}, and ${evict.map(victim).join(", ")} would leave: ${memory(freed(evict))} come free.`;
}

export function Outlook({ plan: told }) {
  return html`<p class="outlook small">
    <span role="status">${told && inWords(told)}</span>
    ${!told && html`<span class="dim">Point at a model's Load to see what it would take, and who would leave.</span>`}
  </p>`;
}
