// The pool's public API, and nothing else.
export class ApiError extends Error {
  constructor(status, said) {
    super(said?.message ?? `the pool answered ${status}`);
    this.status = status;
    this.code = said?.code ?? "";
    this.source = said?.source ?? "pool";
  }
}

export class Unreachable extends Error {
  constructor() {
    super("the pool does not answer; is it running?");
  }
}

async function asked(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable();
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  throw new ApiError(answer.status, said?.error);
}

function withBody(method, body) {
  return { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body ?? {}) };
}

const json = async (answer) => (await answer).json();
export const get = (path, options) => json(asked(path, options));
export const post = (path, body) => json(asked(path, withBody("POST", body)));
export const patch = (path, body) => json(asked(path, withBody("PATCH", body)));
export const put = (path, body) => json(asked(path, withBody("PUT", body)));
export const remove = (path) => json(asked(path, { method: "DELETE" }));

export function query(values) {
  const said = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return said.length ? `?${new URLSearchParams(said)}` : "";
}

// The text of an answer as it comes, line by line.
export async function* lines(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const found = (rest + value).split("\n");
      rest = found.pop();
      yield* found;
    }
    if (rest) yield rest;
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html: of comments
// only that there was one, for they say that the pool is there.
export async function* events(answer) {
  let data = [], id = "", name = "";
  for await (const line of lines(answer)) {
    const said = line.replace(/\r$/, "");
    if (said === "") {
      if (data.length) yield { id, event: name, data: data.join("\n") };
      [data, name] = [[], ""];
    } else if (said.startsWith(":")) {
      yield { comment: said.slice(1).trim() };
    } else {
      const at = said.indexOf(":");
      const [field, value] = at < 0 ? [said, ""] : [said.slice(0, at), said.slice(at + 1).replace(/^ /, "")];
      if (field === "data") data.push(value);
      else if (field === "id") id = value;
      else if (field === "event") name = value;
    }
  }
}

export const stream = (path, options) => asked(path, options);
export const streamPost = (path, body, options) => asked(path, { ...withBody("POST", body), ...options });
