"""How a front speaks to servers of Ollama: its native API, for one model on one server or more."""
