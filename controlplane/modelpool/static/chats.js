// Conversations that this browser keeps; nobody else has them.
const KEY = "modelpool.chats";
const KEPT = 30;
const MOST_CHARACTERS = 2_000_000; // browsers give some 5 MB to all pages of an address

export function chats() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "[]");
  } catch {
    return [];
  }
}

// The oldest go until all fit. Of answers only what was said is kept, of pictures nothing.
function write(all) {
  let kept = all.slice(0, KEPT);
  for (;;) {
    const text = JSON.stringify(kept);
    try {
      if (text.length <= MOST_CHARACTERS || !kept.length) return void localStorage.setItem(KEY, text);
    } catch {
      if (!kept.length) return; // this browser keeps nothing
    }
    kept = kept.slice(0, -1);
  }
}

const textOf = (content) => (typeof content === "string" ? content : content.filter((p) => p.type === "text").map((p) => p.text).join("\n"));
const titleOf = (content) => (typeof content === "string" ? content : (content.filter((p) => p.type === "text").at(-1)?.text ?? ""));
const plain = ({ role, content, reasoning, note, cost }) => ({ role, content: textOf(content), ...(reasoning && { reasoning }), ...(note && { note }), ...(cost && { cost }) });

// `chat`: id, names of the models, system prompt, parameters, threads.
export function keep(chat) {
  const first = chat.threads[0].find((m) => m.role === "user");
  if (!first) return;
  const threads = chat.threads.map((thread) => thread.filter((m) => !m.problem).map(plain));
  const kept = { ...chat, threads, title: titleOf(first.content).slice(0, 80), at: new Date().toISOString() };
  write([kept, ...chats().filter((c) => c.id !== chat.id)]);
}

export const forget = (id) => write(chats().filter((c) => c.id !== id));
export const forgetAll = () => write([]);
