"""What the config file may say of a provider. PURE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictStr, model_validator

from .table import presets

Text = Annotated[StrictStr, Field(min_length=1, max_length=1000)]


class PricesSettings(BaseModel):
    """In dollars for a million tokens; of a picture, for one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    input: float | None = Field(None, ge=0, description="What is sent")
    cached_input: float | None = Field(None, ge=0, description="... and was sent before")
    output: float | None = Field(None, ge=0, description="What is answered")
    image: float | None = Field(None, ge=0, description="A picture")


class RemoteModelSettings(BaseModel):
    """One model of a provider, with what is not in our table or is otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Text | None = Field(None, description="Its name there")
    aliases: tuple[Text, ...] = Field((), description="Further names here")
    capabilities: tuple[Text, ...] | None = Field(None, description="What it can do")
    context_length: Annotated[int, Field(ge=1)] | None = Field(None, description="Tokens")
    prices: PricesSettings | None = Field(None, description="What it costs")


class ProviderSettings(BaseModel):
    """A server elsewhere: one worker serves all its models, each as PROVIDER:NAME."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    engine: Text | None = Field(
        None, description="openai, anthropic or http; null is that of the well-known provider"
    )
    base_url: Text | None = Field(
        None, description="Where its API begins; null is that of the well-known provider"
    )
    api_key_variable: Text | None = Field(
        None, description="Environment variable that holds its key; null is the usual one"
    )
    api_key_file: Text | None = Field(
        None, description="File that holds its key, read again when it changes"
    )
    models: tuple[Text | RemoteModelSettings, ...] = Field(
        (), description="Its models by their names there, or objects with more about them"
    )
    discover: bool = Field(False, description="Take the models that it lists, too")
    ttl_minutes: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Idle minutes until its worker ends; null is the pool's default"
    )
    options: Mapping[str, Any] = Field({}, description="Further options of the engine")

    @model_validator(mode="after")
    def _says_something(self) -> ProviderSettings:
        if any(not isinstance(m, str) and m.name is None for m in self.models):
            raise ValueError("models: each needs its name there")
        return self


def check_names(providers: Mapping[str, ProviderSettings]) -> Mapping[str, ProviderSettings]:
    """A provider that is not well known has to say what speaks its API, and where.

    Raises:
        ValueError: one does not.
    """
    for name, settings in providers.items():
        if name not in presets() and settings.base_url is None and settings.engine != "http":
            known = ", ".join(presets())
            raise ValueError(f"{name} needs base_url; without one there are: {known}")
        if ":" in name or "/" in name:
            raise ValueError(f"{name} must not hold ':' or '/': its models are called NAME:MODEL")
    return providers
