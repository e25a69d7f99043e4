"""What to think of what was seen: each check a function of figures. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

MB = 1_000_000
# What drivers keep of a device after a process, and what others take meanwhile.
SLACK_BYTES = 200 * MB
# An estimate is for a full cache and a driver's own part that differs by device.
ESTIMATE_FACTOR = 2.0

PASSED, FAILED = 0, 1


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. ``note``: nothing is wrong, it could not be checked here."""

    name: str
    result: Literal["ok", "fail", "note"]
    found: str

    def __str__(self) -> str:
        return f"{self.result:4}  {self.name}: {self.found}"


def seen(report: Mapping[str, Any]) -> Check:
    """Whether there are devices, and whether they tell what they should."""
    devices = report["devices"]
    if not devices:
        reasons = "; ".join(v["reason"] for v in report["vendors"] if v["reason"])
        return Check("devices", "note", f"there is no GPU, so nothing is checked: {reasons}")
    silent = [d["id"] for d in devices if not d["total_bytes"] or d["free_bytes"] is None]
    if silent:
        return Check("devices", "fail", f"{', '.join(silent)} do not tell their memory")
    told = (f"{d['id']} {d['name']} {megabytes(d['free_bytes'])} free" for d in devices)
    return Check("devices", "ok", ", ".join(told))


def estimated(name: str, needs: Mapping[str, int], peaks: Mapping[str, int]) -> list[Check]:
    """Estimates in bytes against what a worker's processes held at most, by device: a model must
    not take more than was reserved, and not less than half of it."""
    checks = []
    for device in sorted({*needs, *peaks}):
        need, peak = needs.get(device, 0), peaks.get(device, 0)
        text = f"estimated {megabytes(need)}, at most {megabytes(peak)}"
        if not peak:
            why = "the engine does not use it, or the driver does not tell of processes"
            checks.append(Check(f"{name} on {device}", "note", f"{text}: {why}"))
            continue
        is_right = peak <= need + SLACK_BYTES and need <= peak * ESTIMATE_FACTOR + SLACK_BYTES
        checks.append(Check(f"{name} on {device}", "ok" if is_right else "fail", text))
    return checks


def pinned(wanted: Sequence[str], used: Mapping[str, int]) -> Check:
    """A model that is kept to devices must hold memory of no other."""
    name = f"kept to {', '.join(wanted) or 'no device'}"
    strays = {d: size for d, size in used.items() if size and d not in wanted}
    if strays:
        told = ", ".join(f"{megabytes(size)} of {d}" for d, size in strays.items())
        return Check(name, "fail", f"it holds {told}")
    if wanted and not any(used.values()):
        return Check(name, "note", "it holds memory of none")
    return Check(name, "ok", "it holds memory of no other")


def given_back(before: Mapping[str, int], after: Mapping[str, int]) -> list[Check]:
    """Free bytes by device before a load and after the unload."""
    checks = []
    for device, free in sorted(before.items()):
        missing = free - after.get(device, 0)
        result: Literal["ok", "fail"] = "ok" if missing <= SLACK_BYTES else "fail"
        text = f"{megabytes(max(0, missing))} less free than before"
        checks.append(Check(f"memory of {device} after unload", result, text))
    return checks


def crowded(action: str, reason: str) -> Check:
    """What a plan says while another process holds nearly all of a device."""
    is_right = action in ("refuse", "wait") and "other programs hold the rest" in reason
    text = f"{action}: {reason}"
    return Check("another process takes the memory", "ok" if is_right else "fail", text)


def answered(name: str, text: str, layers: int | None, seconds: float) -> Check:
    """A model that was asked; ``layers`` on devices as they were chosen, None: all."""
    on = "all layers on devices" if layers is None else f"{layers} layers on devices"
    result: Literal["ok", "fail"] = "ok" if text else "fail"
    return Check(name, result, f"{on}, loaded and answered in {seconds:.1f} s")


def exit_code(checks: Iterable[Check], *, require: bool = False) -> int:
    """0: nothing is wrong, or there is no GPU and none is required; 1: something is."""
    found = list(checks)
    if any(c.result == "fail" for c in found):
        return FAILED
    has_none = any(c.name == "devices" and c.result == "note" for c in found)
    return FAILED if has_none and require else PASSED


def record(
    report: Mapping[str, Any], answers: Mapping[str, str], checks: Iterable[Check]
) -> dict[str, Any]:
    """The machine in the form that tests read: its devices, what the vendor's tool answered to
    each query, and what came of the checks. Other programs' pids stay, their names are not known.
    """
    devices = report["devices"]
    kept = ("name", "uuid", "total_bytes", "free_bytes", "processes")
    return {
        "synthetic": False,
        "about": "recorded by scripts/check_gpu",
        "driver": devices[0]["driver"] if devices else "",
        "devices": [{key: device[key] for key in kept} for device in devices],
        "nvidia_smi": dict(answers),
        "checks": [asdict(check) for check in checks],
    }


def megabytes(size: int) -> str:
    """For people."""
    return f"{size / MB:,.0f} MB"
