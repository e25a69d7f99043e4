"""Models in another program's folder, as discovery finds them and with the names that it gives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from modelpool.catalog.entry_schema import GGUF_ENGINES
from modelpool.catalog.formats.registry import formats
from modelpool.converters.base import Found
from modelpool.discovery.companions import Belonging, Companions
from modelpool.discovery.findings import Finding
from modelpool.discovery.names import Named, proposals
from modelpool.discovery.options import found_options, found_request
from modelpool.discovery.scan import Scan, ScanRequest


def found_models(folder: Path, layout: str) -> list[Found]:
    """Those that GGUF files are. Reads the headers of all; blocks.

    Raises:
        InvalidRequest: the folder cannot be read.
    """
    findings = [f for f in Scan(ScanRequest(str(folder), layout)).run() if isinstance(f, Finding)]
    models = [f for f in findings if f.kind == "model"]
    alike: defaultdict[str, list[Named]] = defaultdict(list)
    for finding in models:
        alike[finding.name].append(_named(finding))
    engines = {name: each.engine for name, each in formats().items()}
    companions = Companions(findings)
    return [
        _found(finding, alike[finding.name], engines[finding.format], companions.of([finding]))
        for finding in models
        if engines.get(finding.format) in GGUF_ENGINES
    ]


def _named(finding: Finding) -> Named:
    return Named(
        finding.path, finding.name, finding.tag, finding.quantization, finding.is_repository
    )


def _found(
    finding: Finding, siblings: list[Named], engine: str, companions: Sequence[Belonging]
) -> Found:
    model_id = next(proposals(_named(finding), siblings))
    options = found_options(finding, engine, companions)
    request = found_request(finding, engine)
    return Found(model_id, finding.path, options, finding.other_names, request)
