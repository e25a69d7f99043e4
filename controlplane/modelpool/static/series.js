// What the pool did since this page was opened: a sample every few seconds, the oldest go first.
const EVERY_MS = 4000;
const KEPT = 900; // an hour

export const samples = [];
let before = null;

const memoryOf = (model) =>
  (model.replicas ?? []).reduce((sum, r) => sum + (r.memory_measured_mb ?? r.memory_reserved_mb ?? 0), 0);

// `models` are all that are awake, read at `at` (ms); true if there is a new sample.
export function sample(models, at) {
  if (before && at - before.at < EVERY_MS) return false;
  const counts = new Map(models.map((m) => [m.model_id, m]));
  const span = before ? (at - before.at) / 1000 : 0;
  const byModel = {};
  const sum = { tokens: 0, requests: 0, memory: 0 };
  for (const [id, model] of counts) {
    const old = before?.counts.get(id);
    const isSame = old && old.generation === model.generation && span > 0;
    const rate = (name) => (isSame ? Math.max(0, model[name] - old[name]) / span : 0);
    const own = { tokens: rate("tokens_total"), requests: rate("requests_total"), memory: memoryOf(model) };
    byModel[id] = own;
    for (const name of Object.keys(sum)) sum[name] += own[name];
  }
  before = { at, counts };
  samples.push({ at: at / 1000, ...sum, models: byModel });
  if (samples.length > KEPT) samples.shift();
  return true;
}

// Times in seconds, and the values of one figure: of the pool, or of one model.
export function figures(name, id = null) {
  const of = (s) => (id === null ? s[name] : (s.models[id]?.[name] ?? 0));
  return [samples.map((s) => s.at), samples.map(of)];
}
