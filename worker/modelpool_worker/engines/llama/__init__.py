"""llama.cpp in three forms: the wheel of xllamacpp, its own server, llama-cpp-python."""
