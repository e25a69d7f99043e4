"""Where programs keep their models, and what they call them: layouts as the programs make them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from modelpool.catalog.sources.registry import sources
from modelpool.discovery.findings import Finding
from modelpool.discovery.scan import Scan, ScanRequest
from support.model_tree import gguf, put, split_gguf

HOME = Path("/home/me")


def found(root: Path, source: str = "") -> list[Finding]:
    scan = Scan(ScanRequest(str(root), source))
    return [f for f in scan.run() if isinstance(f, Finding)]


def layout(root: Path) -> str:
    scan = Scan(ScanRequest(str(root)))
    list(scan.run())
    return scan.source


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {f.name: f for f in findings}


def blob(folder: Path, data: bytes) -> Path:
    return put(folder / hashlib.sha256(data).hexdigest(), data)


def hub(root: Path, repo: str, revision: str, files: Mapping[str, bytes]) -> Path:
    """As huggingface_hub lays it out."""
    folder = root / f"models--{repo.replace('/', '--')}"
    put(folder / "refs" / "main", revision.encode())
    for name, data in files.items():
        link = folder / "snapshots" / revision / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob(folder / "blobs", data), link.parent))
    return folder


def test_the_cache_of_hugging_faces_hub(tmp_path: Path) -> None:
    hub(tmp_path, "a/Old-GGUF", "1" * 40, {"old-q4_0.gguf": gguf("gone")})
    folder = hub(tmp_path, "a/Old-GGUF", "2" * 40, {"sub/new-q4_0.gguf": gguf("new")})
    put(folder / "blobs" / "abc.incomplete", b"half")
    put(tmp_path / "datasets--a--b" / "snapshots" / "x" / "data.gguf", gguf("no"))
    model, unfinished = found(tmp_path)
    assert layout(tmp_path) == "huggingface"
    assert (model.name, model.kind, model.is_repository) == ("a/Old-GGUF", "model", True)
    assert model.path.endswith(f"{'2' * 40}/sub/new-q4_0.gguf")
    assert model.digest == f"sha256:{hashlib.sha256(gguf('new')).hexdigest()}"
    assert (unfinished.kind, unfinished.problem) == ("broken", "is a download that has not ended")


def test_a_hub_without_a_ref_has_its_newest_revision(tmp_path: Path) -> None:
    for i, revision in enumerate(("aa", "bb")):
        folder = hub(tmp_path, "a/r", revision, {f"{revision}.gguf": gguf(revision)})
        os.utime(folder / "snapshots" / revision, (i, i))
    (folder / "refs" / "main").unlink()
    (model,) = found(tmp_path)
    assert model.path.endswith("bb/bb.gguf")


def test_llama_cpps_cache_with_manifests_and_with_the_hubs_layout(tmp_path: Path) -> None:
    put(tmp_path / "manifest=ggml-org=gemma-3-4b-it-GGUF=latest.json", b"{}")
    put(tmp_path / "ggml-org_gemma-3-4b-it-GGUF_gemma-3-4b-it-Q4_K_M.gguf", gguf("g"))
    put(tmp_path / "stories.gguf", gguf("s"))
    put(tmp_path / "x_y_z.gguf.downloadInProgress", b"half")
    hub(tmp_path, "o/New-GGUF", "3" * 40, {"new.gguf": gguf("n")})
    findings = found(tmp_path, "llama_cpp")
    models = by_name([f for f in findings if f.kind == "model"])
    assert set(models) == {"ggml-org/gemma-3-4b-it-GGUF", "", "o/New-GGUF"}
    assert [f.kind for f in findings].count("broken") == 1


def ollama(root: Path, name: str, layers: Mapping[str, bytes], top: str = "manifests") -> Path:
    """As Ollama lays it out."""
    said: list[Any] = []
    for kind, data in layers.items():
        digest = hashlib.sha256(data).hexdigest()
        put(root / "blobs" / f"sha256-{digest}", data)
        kind = f"application/vnd.ollama.image.{kind}"
        said.append({"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)})
    manifest = {"schemaVersion": 2, "config": {}, "layers": said}
    return put(root / top / name, json.dumps(manifest).encode())


LLAMA = "registry.ollama.ai/library/llama3.2"


def test_ollamas_store(tmp_path: Path) -> None:
    texts = {
        "template": b"{{ .Prompt }}",
        "params": b'{"stop": ["<|eot|>"], "num_ctx": 4096}',
        "license": b"free",
    }
    eyes = gguf("eyes", general__architecture="clip")
    ollama(tmp_path, f"{LLAMA}/3b", {"model": gguf("l"), "projector": eyes, **texts})
    ollama(tmp_path, f"{LLAMA}/latest", {"model": gguf("l"), **texts})
    ollama(tmp_path, "registry.ollama.ai/me/own/v1", {"model": gguf("own")}, "manifests-v2")
    ollama(tmp_path, "hf.co/o/r-GGUF/Q4_0", {"model": gguf("hf")})
    assert layout(tmp_path) == "ollama"
    models = by_name([f for f in found(tmp_path) if f.kind == "model"])
    assert set(models) == {"llama3.2", "me/own", "hf.co/o/r-GGUF"}
    llama = models["llama3.2"]
    assert (llama.tag, llama.other_names) == ("3b", ("llama3.2:latest",))
    assert llama.path == str(tmp_path / "blobs" / llama.digest.replace(":", "-"))
    said = llama.facts["ollama"]["llama3.2:3b"]
    assert (said["params"]["num_ctx"], said["license"]) == (4096, "free")
    (projector,) = llama.companions["projector"]
    assert Path(projector).read_bytes() == eyes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is corrupt: it is no manifest of Ollama"),
        ("[]", "is corrupt: it is no manifest of Ollama"),
        ('{"layers": [{"digest": "../x"}]}', "is corrupt: it is no manifest of Ollama"),
        ('{"layers": []}', "has no weights here: only Ollama itself can run it"),
    ],
)
def test_manifests_that_are_none(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "blobs").mkdir()
    put(tmp_path / "manifests" / LLAMA / "bad", text.encode())
    (broken,) = found(tmp_path)
    assert (broken.kind, broken.problem) == ("broken", problem)


def test_blobs_of_ollama_that_are_missing_or_half_there(tmp_path: Path) -> None:
    for tag in ("gone", "half"):
        ollama(tmp_path, f"{LLAMA}/{tag}", {"model": gguf(tag)})
    blobs = {p.read_bytes(): p for p in (tmp_path / "blobs").iterdir()}
    blobs[gguf("gone")].unlink()
    blobs[gguf("half")].write_bytes(b"GGUF")
    problems = sorted(f.problem for f in found(tmp_path))
    assert problems[0].startswith("has 4 of ")
    assert problems[1] == "is missing; llama3.2:gone of Ollama cannot be run without"


def test_a_store_inside_any_folder_is_read_as_that(tmp_path: Path) -> None:
    ollama(tmp_path / "deep" / "ollama", f"{LLAMA}/1b", {"model": gguf("l")})
    hub(tmp_path / "deep" / "hub", "o/r", "4" * 40, {"r-q8_0.gguf": gguf("r")})
    put(tmp_path / "mine.gguf", gguf("m"))
    assert set(by_name(found(tmp_path))) == {"llama3.2", "o/r", ""}


def test_lm_studio_and_providers_folders(tmp_path: Path) -> None:
    put(tmp_path / "TheBloke" / "X-7B-GGUF" / "x-7b.Q4_K_M.gguf", gguf("x"))
    (model,) = found(tmp_path, "lm_studio")
    assert (model.name, model.provider) == ("TheBloke/X-7B-GGUF", "")
    (model,) = found(tmp_path, "external")
    assert (model.name, model.provider) == ("TheBloke/X-7B-GGUF", "TheBloke")


def test_a_split_model_is_one(tmp_path: Path) -> None:
    parts = split_gguf(tmp_path / "o" / "big", "big", 3)
    (model,) = found(tmp_path)
    assert (model.path, model.info and model.info.parts) == (str(parts[0]), 3)
    parts[2].unlink()
    (broken,) = found(tmp_path)
    assert (broken.kind, broken.problem) == ("broken", "misses part 3 of 3")


@pytest.mark.parametrize(
    ("source", "environ", "expected"),
    [
        ("huggingface", {}, ["/home/me/.cache/huggingface/hub"]),
        ("huggingface", {"HF_HOME": "/hf", "XDG_CACHE_HOME": "/x"}, ["/hf/hub"]),
        ("huggingface", {"HF_HUB_CACHE": "/cache", "HF_HOME": "/hf"}, ["/cache"]),
        ("huggingface", {"XDG_CACHE_HOME": "/x"}, ["/x/huggingface/hub"]),
        ("llama_cpp", {"LLAMA_CACHE": "/l", "XDG_CACHE_HOME": "/x"}, ["/l"]),
        ("llama_cpp", {"XDG_CACHE_HOME": "/x"}, ["/x/llama.cpp"]),
        ("ollama", {"OLLAMA_MODELS": "/o"}, ["/o"]),
        ("ollama", {"OLLAMA_MODELS": "~no-such-user/o"}, ["~no-such-user/o"]),
        ("huggingface", {"HF_HOME": "~no-such-user"}, ["~no-such-user/hub"]),
        (
            "ollama",
            {},
            ["/home/me/.ollama/models", "/usr/share/ollama/.ollama/models"],
        ),
        ("lm_studio", {}, ["/home/me/.lmstudio/models", "/home/me/.cache/lm-studio/models"]),
        ("folder", {}, []),
        ("external", {}, []),
    ],
)
def test_where_they_are(source: str, environ: Mapping[str, str], expected: list[str]) -> None:
    assert [str(p) for p in sources()[source].default_paths(environ, HOME)] == expected


def test_weights_with_other_adapters_are_another_model_of_ollama(tmp_path: Path) -> None:
    layers = {"model": gguf("l"), "adapter": b"x"}
    path = ollama(tmp_path, f"{LLAMA}/mine", layers)
    ollama(tmp_path, f"{LLAMA}/plain", {"model": gguf("l")})
    ollama(tmp_path, f"{LLAMA}/same", {"model": gguf("l")})
    findings = found(tmp_path)
    (model,) = [f for f in findings if f.kind == "model"]
    assert (model.tag, model.other_names, model.companions) == ("plain", ("llama3.2:same",), {})
    (other,) = [f for f in findings if f.kind == "broken"]
    assert other.path == str(path)
    assert other.problem.startswith("is llama3.2:mine, which has the weights of llama3.2:plain")
