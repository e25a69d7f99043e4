// An answer as it comes.
import { ApiError, events, streamPost } from "./api.js";

// Times are those this page sees: what waited, what the model read, what it wrote.
export async function follow(body, signal, amend) {
  const began = performance.now();
  const since = () => (performance.now() - began) / 1000;
  const answer = await streamPost("v1/chat/completions", { ...body, stream: true, stream_options: { include_usage: true } }, { signal });
  const model = answer.headers.get("x-modelpool-model") ?? body.model;
  const ignored = answer.headers.get("x-modelpool-ignored");
  let content = "", reasoning = "", first = null, usage = null, timings = null, chunks = 0;
  for await (const event of events(answer)) {
    if (event.comment !== undefined) {
      if (first === null) amend({ waits: event.comment });
      continue;
    }
    if (event.data === "[DONE]") break;
    const said = JSON.parse(event.data);
    if (said.error) throw new ApiError(200, said.error);
    usage = said.usage ?? usage;
    timings = said.timings ?? timings;
    const delta = said.choices?.[0]?.delta ?? {};
    if (!delta.content && !delta.reasoning_content) continue;
    first ??= since();
    chunks += 1;
    content += delta.content ?? "";
    reasoning += delta.reasoning_content ?? "";
    amend({ content, reasoning, waits: "", cost: { model, first, total: since(), tokens: chunks } });
  }
  const tokens = usage?.completion_tokens ?? chunks;
  amend({ content, reasoning, waits: "", ignored, cost: { model, first, total: since(), tokens, prompt: usage?.prompt_tokens, cached: usage?.prompt_tokens_details?.cached_tokens, timings } });
}
