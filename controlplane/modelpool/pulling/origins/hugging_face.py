"""The Hugging Face hub, or a mirror of it.

Its library knows the endpoints, the token (HF_TOKEN, HUGGING_FACE_HUB_TOKEN, the file of its own
login), pages of listings, and what its errors mean; it does that here. The bytes come by our own
downloader: the library's has no limit on speed, leaves a file unverified, and is for the hub alone.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from huggingface_hub import HfApi, get_token, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from modelpool_client.errors import (
    BadGateway,
    Forbidden,
    InvalidRequest,
    ModelPoolError,
    NotFound,
    Unavailable,
)

from modelpool.pulling.base import Listing, OriginSettings, RemoteFile, path_problem
from modelpool.pulling.reference import Reference

TIMEOUT_SECONDS = 30.0
MAX_FILES = 100_000
TOKEN_STEP = "give the pool a token: HF_TOKEN in its environment, then restart it"


class HuggingFace:
    """See ``Origin``."""

    def __init__(self, settings: OriginSettings) -> None:
        self._api = HfApi(endpoint=settings.hub_url)

    def folder(self, reference: Reference) -> str:
        revision = reference.revision.replace("/", "-")
        return reference.name + (f"@{revision}" if revision else "")

    def list(self, reference: Reference) -> Listing:
        try:
            info = self._api.model_info(
                reference.name, revision=reference.revision or None, timeout=TIMEOUT_SECONDS
            )
            commit = str(info.sha)
            tree = self._api.list_repo_tree(reference.name, recursive=True, revision=commit)
            found = islice((f for f in tree if isinstance(f, RepoFile)), MAX_FILES)
            files = [self._file(reference, commit, f) for f in found]
        except Exception as e:
            raise self._explained(e, reference) from None
        return Listing(commit, [f for f in files if not path_problem(f.path)])

    def _file(self, reference: Reference, commit: str, found: RepoFile) -> RemoteFile:
        token = get_token()
        digest = f"git:{found.blob_id}" if found.lfs is None else f"sha256:{found.lfs.sha256}"
        return RemoteFile(
            path=found.path,
            url=hf_hub_url(
                reference.name, found.path, revision=commit, endpoint=self._api.endpoint
            ),
            size=found.size,
            digest=digest.lower(),
            headers={"authorization": f"Bearer {token}"} if token else {},
        )

    def _explained(self, error: Exception, reference: Reference) -> ModelPoolError:
        """What went wrong, and what to do: the library raises what its own HTTP client does."""
        name, hub = reference.name, self._api.endpoint
        known: dict[str, Any] = {"source": "upstream"}
        if isinstance(error, GatedRepoError):
            steps = f"accept its terms at {hub}/{name}" + (
                "" if get_token() else f" and {TOKEN_STEP}"
            )
            return Forbidden(f"{name} is gated: {steps}", code="gated", **known)
        if isinstance(error, RepositoryNotFoundError):
            step = "" if get_token() else f"; if it is private, {TOKEN_STEP}"
            return NotFound(f"{hub} has no repository {name}{step}", param="source", **known)
        if isinstance(error, RevisionNotFoundError):
            text = f"{name} has no revision {reference.revision!r}"
            return NotFound(text, param="source", **known)
        if isinstance(error, ValueError) and not isinstance(error, OSError):
            return InvalidRequest(f"{name}: {error}", param="source")
        if isinstance(error, HfHubHTTPError):
            return _refusal(f"{hub} answers {error.response.status_code} for {name}", error)
        return BadGateway(f"{hub} cannot be reached: {error}", code="unreachable", **known)


def _refusal(text: str, error: HfHubHTTPError) -> ModelPoolError:
    status = error.response.status_code
    if status in (401, 403):
        return Forbidden(f"{text}: {TOKEN_STEP}", source="upstream")
    if status == 429 or status >= 500:
        return Unavailable(f"{text}; try again later", code="upstream_busy", source="upstream")
    return BadGateway(text, source="upstream")
