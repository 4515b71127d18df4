"""What a measurement drives, for how long, and what it would send at the most."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from synth_async.config.loading import LoadedConfig
from synth_async.config.models import Config, Endpoint, Generation, Judge, Simulation, Topics
from synth_async.config.secrets import ResolvedEndpoint

__all__ = ["BenchPlan", "embedded_config", "is_loopback", "paid_endpoints", "would_send"]

_EMBEDDED_TOPICS = 200
_MOST_ACCEPTED_PER_S = 2_000
"""More than one process can bring: a target of so many is never met before the time is over."""


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """A measurement: of the client alone or of a whole run, until `seconds` are over or `requests` were sent."""

    loaded: LoadedConfig
    resolved: Mapping[str, ResolvedEndpoint]
    client_only: bool
    seconds: float | None
    requests: int | None

    @property
    def used(self) -> dict[str, ResolvedEndpoint]:
        """The endpoints that requests go to: every one of the run, or the one that generates."""
        if not self.client_only:
            return dict(self.resolved)
        name = self.loaded.config.endpoint_of("generation")
        return {name: self.resolved[name]}

    def tireless(self) -> LoadedConfig:
        """The config with a target out of reach, so that time or requests end the run; the first round is as before."""
        config = self.loaded.config
        most = self.requests if self.requests is not None else int(_MOST_ACCEPTED_PER_S * (self.seconds or 0.0))
        target = max(config.target, most, 1)
        topics = config.topics.model_copy(update={"count": config.topic_count})
        config = config.model_copy(update={"target": target, "topics": topics})
        return replace(self.loaded, config=config)


def embedded_config(simulation: Simulation, *, max_tokens: int, max_in_flight: int) -> LoadedConfig:
    """A run against the embedded endpoint, told its limits as a user's config would be."""
    endpoint = Endpoint(
        base_url="simulator",
        model="simulator",
        rpm=simulation.rpm,
        tpm=simulation.tpm,
        max_in_flight=max_in_flight,
        simulation=simulation,
    )
    config = Config(
        name="bench",
        domain="customer support for a SaaS billing platform",
        system_prompt="You are a support agent for BillingPro. Be accurate, concrete and kind.",
        target=1,
        endpoints={"embedded": endpoint},
        topics=Topics(count=_EMBEDDED_TOPICS),
        generation=Generation(max_tokens=max_tokens),
        judge=Judge(max_tokens=max_tokens),
    )
    return LoadedConfig(config, Path("bench"), "")


def is_loopback(base_url: str) -> bool:
    """Whether requests to a URL stay on this machine."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def paid_endpoints(plan: BenchPlan) -> list[ResolvedEndpoint]:
    """The endpoints whose requests leave this machine."""
    return [one for one in plan.used.values() if not one.is_simulator and not is_loopback(one.base_url)]


def would_send(plan: BenchPlan, endpoint: ResolvedEndpoint) -> str:
    """What a measurement would send to an endpoint at the most, in words."""
    settings = endpoint.settings
    minutes = None if plan.seconds is None else plan.seconds / 60
    amounts = [] if plan.requests is None else [f"{plan.requests:,} requests"]
    if minutes is not None and settings.rpm is not None:
        amounts.append(f"up to {settings.rpm * minutes:,.0f} requests (rpm)")
    if minutes is not None and settings.tpm is not None:
        amounts.append(f"up to {settings.tpm * minutes:,.0f} tokens (tpm)")
        if settings.price is not None:
            dearest = max(settings.price.prompt, settings.price.completion)
            cost_usd = settings.tpm * minutes * dearest / 1e6
            amounts.append(f"up to ${cost_usd:,.{2 if cost_usd >= 1 else 4}f}")
    if not amounts:
        amounts.append("as many requests as it answers, since the config declares neither rpm nor tpm")
    span = "" if plan.seconds is None else f" in {plan.seconds:g} s"
    return (
        f"{', '.join(amounts)}{span} to {endpoint.base_url} (model {settings.model},"
        f" at most {settings.max_in_flight} in flight)"
    )
