// What can be done to a model, from wherever it is shown.
import { get, post } from "./api.js";
import { html, memory, modelPath } from "./lib.js";
import { refresh } from "./live.js";
import { foresee, freed, victim } from "./parts/outlook.js";
import { attempt, confirmed, notify } from "./notices.js";

const run = (work) => attempt(work).finally(refresh);

// Asks first where somebody else would have to leave.
export const load = (id) =>
  run(async () => {
    const plan = await get(`${modelPath(id)}/plan`);
    if (plan.evict.length) {
      const text = html`${id} needs ${memory(plan.needs.memory_mb)}. To make room, these would be unloaded, and
        ${memory(freed(plan.evict))} come free: ${plan.evict.map((e) => html`<span class="row">${victim(e)}</span>`)}`;
      if (!(await confirmed(`Load ${id}?`, text, "Load"))) return;
    }
    foresee(null);
    const { message } = await post(`${modelPath(id)}/load`);
    notify(message);
  });

export const unload = (id, isForced = false) =>
  run(async () => {
    try {
      await post(`${modelPath(id)}/unload`, { force: isForced });
    } catch (error) {
      if (error.status !== 409 || isForced) throw error;
      if (await confirmed(`Unload ${id} all the same?`, error.message, "Unload")) {
        await post(`${modelPath(id)}/unload`, { force: true });
      }
    }
  });

export const extend = (id, minutes) =>
  run(async () => {
    const { message } = await post(`${modelPath(id)}/extend-ttl`, { minutes });
    notify(message ?? `${id} stays ${minutes} minutes longer`);
  });
