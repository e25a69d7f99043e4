"""What the config file may say of alerts. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictStr,
    model_validator,
)

from .rules import BUILT_IN, Rule
from .signals import SIGNALS
from .targets.registry import is_known, kinds

NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
# Requests are remembered for the longest window of all rules.
LONGEST_WINDOW_SECONDS = 3600
DAY_SECONDS = 86_400

Name = Annotated[StrictStr, Field(pattern=NAME)]
Text = Annotated[StrictStr, Field(min_length=1, max_length=1000)]
Severity = Literal["info", "warning", "critical"]
Duration = Annotated[float, Field(ge=0, le=7 * DAY_SECONDS)]


class _Strict(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


def _signal(name: str) -> str:
    if name not in SIGNALS:
        raise ValueError(f"is no signal; there are {', '.join(SIGNALS)}")
    return name


def _kind(kind: str) -> str:
    if not is_known(kind):
        raise ValueError(f"is no kind of target; there are {', '.join(kinds())}")
    return kind


def plain_url(url: str) -> str:
    """An address that may be shown.

    Raises:
        ValueError: it is none, or holds what is to be kept secret.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or parts.username is not None or parts.query or parts.fragment:
        raise ValueError(
            "should be an address without user and '?', as http://host/path; one that is secret"
            " belongs into url_variable or url_file"
        )
    return url


class AlertRuleSettings(_Strict):
    """A rule; of one of ours, by its name, only what is to be otherwise."""

    enabled: bool = Field(True, description="Whether it is evaluated")
    signal: Annotated[StrictStr, AfterValidator(_signal)] | None = Field(
        None, description="What is measured; null: as our rule of that name"
    )
    above: Annotated[float, Field(ge=0)] | None = Field(
        None, description="There is an alert while the signal is above that"
    )
    window_seconds: Annotated[float, Field(ge=15, le=LONGEST_WINDOW_SECONDS)] | None = Field(
        None, description="How far back it looks (300)"
    )
    min_count: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="With fewer requests in the window nothing is concluded (1)"
    )
    for_seconds: Duration | None = Field(
        None, description="So long it has to last before it fires (60)"
    )
    keep_firing_for_seconds: Duration | None = Field(
        None, description="It fires on so long after it was last seen (300)"
    )
    severity: Severity | None = Field(None, description="info, warning (default) or critical")
    models: Annotated[tuple[Text, ...], Field(strict=False)] | None = Field(
        None, description="Ids of models, or patterns of them; null: all"
    )
    summary: Text | None = Field(None, description="What it means, for whoever is told")


class AlertTargetSettings(_Strict):
    """Who is told of alerts."""

    kind: Annotated[StrictStr, AfterValidator(_kind)] = Field(
        "webhook", description="webhook (JSON as Alertmanager's), slack, or a plug-in's"
    )
    url: Annotated[StrictStr, AfterValidator(plain_url)] | None = Field(
        None, repr=False, description="Its address; one that is a secret stands elsewhere:"
    )
    url_variable: Text | None = Field(
        None, description="Environment variable that holds its address"
    )
    url_file: Text | None = Field(
        None, description="File that holds its address, read again each time"
    )
    min_severity: Severity = Field("info", description="Least severity that it is told of")
    send_resolved: bool = Field(True, description="Told of the end of alerts, too")
    timeout_seconds: Annotated[float, Field(gt=0, le=300)] = Field(
        10, description="For one attempt, from connecting to the answer"
    )
    attempts: Annotated[int, Field(ge=1, le=20)] = Field(
        6, description="Until a message is given up, with growing pauses"
    )

    @model_validator(mode="after")
    def _has_one_address(self) -> AlertTargetSettings:
        if sum(each is not None for each in (self.url, self.url_variable, self.url_file)) != 1:
            raise ValueError("should have one of url, url_variable and url_file")
        if self.kind == "slack" and self.url is not None:
            raise ValueError(
                "url of Slack is a secret, and all that stands here is shown by GET /config: put it"
                " into url_variable or url_file"
            )
        return self


class AlertsSettings(_Strict):
    """Alerts: rules, and who is told."""

    enabled: bool = Field(True, description="Whether rules are evaluated")
    built_in: bool = Field(True, description="Whether ours are among them; see docs/alerts.md")
    rules: Mapping[Name, AlertRuleSettings] = Field(
        {}, description="Rules by name: own ones, and what is otherwise of ours"
    )
    targets: Mapping[Name, AlertTargetSettings] = Field(
        {}, description="Who is told, by name; set in the config file only"
    )
    repeat_seconds: Duration = Field(
        4 * 3600, description="What fires on is told again after so long; 0: once only"
    )

    @model_validator(mode="after")
    def _rules_are_whole(self) -> AlertsSettings:
        for name, said in self.rules.items():
            known = BUILT_IN.get(name)
            if known is None and (said.signal is None or said.above is None):
                raise ValueError(
                    f"rules.{name} needs signal and above, for it is none of ours;"
                    f" those are {', '.join(BUILT_IN)}"
                )
            if known is not None and said.signal not in (None, known.signal):
                raise ValueError(
                    f"rules.{name} is ours, and its signal is {known.signal}: choose another name"
                )
        return self

    @property
    def effective_rules(self) -> tuple[Rule, ...]:
        """Those that are evaluated, in order."""
        if not self.enabled:
            return ()
        names = dict.fromkeys([*(BUILT_IN if self.built_in else ()), *self.rules])
        return tuple(
            _rule(name, self.rules.get(name, _AS_IT_IS))
            for name in names
            if self.rules.get(name, _AS_IT_IS).enabled
        )


_AS_IT_IS = AlertRuleSettings.model_validate({})


def _rule(name: str, said: AlertRuleSettings) -> Rule:
    own = {
        key: value
        for key, value in said.model_dump(exclude={"enabled"}).items()
        if value is not None
    }
    base = BUILT_IN.get(name) or Rule(name, own["signal"], own["above"])
    return replace(base, **own)
