// Who holds what: one bar for the host, one for each device.
import { html, memory, modelLink } from "../lib.js";
import { Outlook, useOutlook } from "./outlook.js";

const least = 0.5; // percent: what is there is seen

function holders(models) {
  return models.flatMap((model) =>
    model.replicas
      .filter((replica) => replica.memory_reserved_mb > 0)
      .map((replica) => ({ model, replica, mb: replica.memory_measured_mb ?? replica.memory_reserved_mb })),
  );
}

function Bar({ name, parts, total, note }) {
  const label = parts.map((p) => `${p.name} ${memory(p.mb)}`).join(", ") || "nothing";
  return html`
    <div class="bar" role="group" aria-label=${`${name}: ${label}`}>
      ${parts.map(
        (p) => html`<a
          key=${p.key}
          class=${p.kind}
          href=${p.href}
          style=${`width:${Math.max(least, (100 * p.mb) / total)}%`}
          title=${`${p.name}: ${memory(p.mb)} ${p.note}`}
          >${p.mb / total > 0.06 ? `${p.name} ${memory(p.mb)}` : ""}</a
        >`,
      )}
    </div>
    <div class="scale"><span>${name}</span><span>${note}</span></div>
  `;
}

const partOf = ({ model, replica, mb }) => ({
  key: replica.replica,
  model: model.model_id,
  name: replica.replica,
  mb,
  kind: replica.state.toLowerCase(),
  note: replica.memory_measured_mb === null ? "reserved" : `measured, ${memory(replica.memory_reserved_mb)} reserved`,
  href: modelLink(model.model_id),
});

// What comes of the parts of a bar by a load: who leaves, what comes.
function foreseen(parts, plan, mb) {
  if (plan?.action !== "start") return parts;
  const leaves = new Set(plan.evict.map((e) => e.model_id));
  const seen = parts.map((p) => (leaves.has(p.model) ? { ...p, kind: `${p.kind} leaving`, note: "would leave" } : p));
  const coming = { key: "coming", name: plan.model_id, mb, kind: "coming", note: "would come", href: modelLink(plan.model_id) };
  return mb > 0 ? [...seen, coming] : seen;
}

export function Memory({ live }) {
  const { health, models, devices } = live;
  const plan = useOutlook();
  const held = holders(models);
  const sum = held.reduce((total, h) => total + h.mb, 0);
  const taken = health.host_memory_mb - health.host_available_mb;
  const others = Math.max(0, taken - held.reduce((total, h) => total + (h.replica.memory_measured_mb ?? 0), 0));
  const parts = foreseen(held.map(partOf), plan, plan?.needs.memory_mb ?? 0);
  if (others > 0) parts.push(foreign(others));
  const note = `${memory(health.total_memory_mb)} reserved, may be ${memory(health.memory_limit_mb)} · ${memory(health.host_available_mb)} of ${memory(health.host_memory_mb)} available`;
  return html`<section class="card" aria-labelledby="memory">
    <header>
      <h2 id="memory">Memory</h2>
      ${health.memory_pressure && html`<span class="problem small">${health.memory_pressure}</span>`}
    </header>
    <${Bar} name=${health.hostname} parts=${parts} total=${Math.max(health.host_memory_mb, sum + others)} note=${note} />
    ${devices.map((device) => html`<${Device} key=${device.id} device=${device} held=${held} plan=${plan} />`)}
    <${Outlook} plan=${plan} />
    <div class="legend">
      <span class="hot"><i></i>hot</span><span class="cooling"><i></i>cooling: idle, soon to leave</span>
      <span class="warming"><i></i>warming: reserved</span><span class="cold"><i></i>other programs</span>
    </div>
  </section>`;
}

const foreign = (mb) => ({ key: "others", name: "other programs", mb, kind: "cold", note: "", href: "#/" });

const MB = 1e6;

function Device({ device, held, plan }) {
  const total = device.total_bytes / MB;
  const own = held
    .map((h) => ({ ...partOf(h), mb: h.model.memory?.devices_mb?.[device.id] ?? 0 }))
    .filter((p) => p.mb > 0);
  const parts = foreseen(own, plan, plan?.needs.devices_mb[device.id] ?? 0);
  const others = Math.max(0, (device.others_bytes ?? 0) / MB);
  const used = own.reduce((sum, p) => sum + p.mb, others);
  if (others > 0) parts.push(foreign(others));
  const note = `${memory(used)} of ${memory(total)}`;
  return html`<${Bar} name=${`${device.name} (${device.id})`} parts=${parts} total=${Math.max(total, used)} note=${note} />`;
}
