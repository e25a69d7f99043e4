"""The kit for engines that compute in Python, in their own child.

An engine loads a model, makes an object of it that has one or more of the protocols of
``contract``, and calls ``serve(job, status, Hosted(text=…))``. The kit answers HTTP on the child's
unix socket: chat and text completions, embeddings, reranking, classes, tensors, speech,
transcription, pictures; it counts tokens, finds stop texts, calls of tools and the ends of
contexts, batches, and cancels what nobody waits for any more.

Importing this package is cheap and imports nothing that serves; ``honours`` of an engine's class
are made with ``parameters``, its batch options are ``batching.options.OPTIONS``.
"""

from __future__ import annotations
