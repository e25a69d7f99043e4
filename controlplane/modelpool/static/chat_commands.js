// What can be typed in place of a message, as in `poolctl chat`. PURE but for what `talk` does.
export const COMMANDS = {
  "/help": "what can be typed here",
  "/model NAME": "go on with another model",
  "/system TEXT": "how the model should behave",
  "/set KEY=VALUE": "a parameter, as temperature=0.2; - unsets it",
  "/retry": "have the last answer written anew",
  "/clear": "begin a new conversation",
};

function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

// Does what a command says, and tells what that was; null where the text is no command.
export function obey(text, talk) {
  if (!text.startsWith("/") || text.startsWith("//")) return null;
  const [, name, rest] = /^(\S+)\s*([^]*)$/.exec(text);
  const said = rest.trim();
  switch (name) {
    case "/help":
      return Object.entries(COMMANDS).map(([command, about]) => `${command}: ${about}`).join("\n");
    case "/model":
      if (!talk.models.includes(said)) return `There is no model ${said || "without a name"}.`;
      talk.setModel(said);
      return `${said} answers from now on.`;
    case "/system":
      talk.setSystem(said);
      return said ? "That is how it should behave." : "It behaves as it does by itself.";
    case "/set": {
      const [, key, value] = /^([^\s=]+)(?:\s*=\s*|\s+)([^]+)$/.exec(said) ?? [];
      if (!key) return "/set needs KEY=VALUE.";
      talk.setParameter(key, value === "-" ? undefined : read(value));
      return `${key} is ${value === "-" ? "the model's own" : value}.`;
    }
    case "/retry":
      return talk.retry() ? "" : "There is no answer yet.";
    case "/clear":
      talk.clear();
      return "";
    default:
      return `There is no command ${name}; /help says which there are, // says a slash.`;
  }
}
