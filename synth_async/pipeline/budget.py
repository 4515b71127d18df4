"""The budget: what a run may spend over all its processes, leased before each request.

A lease is journaled before its request is sent, at the most that the request can take: the prompt and `max_tokens`. The
answer closes it with what was charged. A request that brought no answer closes it at nothing where the endpoint refused
it, and at the whole lease where the answer may have been made and charged all the same. A lease that a kill left open
counts as spent; that of a batch is for all its lines, and is open as long as the batch is. So what is spent and leased
never passes the budget, and a run that comes to its end stops with work left. Only the size of the prompt is an
estimate, with a margin: the tokens of a prompt are the server's to count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synth_async.config.models import Budget as BudgetConfig
from synth_async.config.models import Config, Price
from synth_async.endpoint.purse import Lease
from synth_async.errors import StoppedEarly
from synth_async.pipeline.frames import lease_frame, release_frame
from synth_async.records import ChatRequest, Usage
from synth_async.store.journal import Journal

__all__ = ["Amount", "Budget", "Purse", "cost_of"]


@dataclass(frozen=True, slots=True)
class Amount:
    """Requests, tokens and US dollars."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.requests + other.requests, self.tokens + other.tokens, self.usd + other.usd)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.requests - other.requests, self.tokens - other.tokens, self.usd - other.usd)


def cost_of(price: Price | None, prompt: int, completion: int) -> float:
    """US dollars of so many tokens; 0 where no price is known (a budget of dollars asks for prices)."""
    return (prompt * price.prompt + completion * price.completion) / 1e6 if price is not None else 0.0


class Budget:
    """What has been spent and leased, and whether a request still fits."""

    def __init__(self, config: Config, journal: Journal, *, spent: Amount, next_lease: int) -> None:
        if config.budget is None:
            raise AssertionError("a budget is kept only where one is configured")
        self.spent = spent
        self._limits: BudgetConfig = config.budget
        self._prices: Mapping[str, Price | None] = {name: each.price for name, each in config.endpoints.items()}
        self._batch_prices = {name: config.price_of(name, in_batches=True) for name in config.endpoints}
        self._journal = journal
        self._next = next_lease
        self._leased = Amount()
        self._open: dict[str, Lease] = {}
        self._settled = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Budget spent={self.spent} leased={self._leased}>"

    def purse(self, endpoint: str) -> Purse:
        """What one endpoint pays from."""
        return Purse(self, endpoint)

    def lease_of(self, key: str) -> int | None:
        """Number of the lease under which a request is under way."""
        lease = self._open.get(key)
        return lease.number if lease is not None else None

    async def lease(self, endpoint: str, request: ChatRequest, prompt_tokens: int) -> Lease:
        """Room for one request, waited for while others may still give some back; raises `StoppedEarly`."""
        completion = request.max_tokens or 0
        wanted = Amount(1, prompt_tokens + completion, cost_of(self._prices[endpoint], prompt_tokens, completion))
        while not self._fits(wanted):
            if not self._open:
                raise StoppedEarly(self._explain(wanted))
            self._settled.clear()
            await self._settled.wait()
        lease = Lease(self._next, endpoint, wanted.tokens, wanted.usd)
        self._next += 1
        self._leased += wanted
        self._open[request.key] = lease
        self._journal.append(lease_frame(request.key, lease))
        return lease

    def settle(self, request: ChatRequest, lease: Lease, usage: Usage | None, *, is_free: bool) -> None:
        """A request came to its end: with an answer (its `usage`), refused (`is_free`), or with nothing to show."""
        del self._open[request.key]
        leased = Amount(1, lease.tokens, lease.usd)
        self._leased -= leased
        if usage is not None:
            price = self._prices[lease.endpoint]
            self.spent += Amount(1, usage.total, cost_of(price, usage.prompt, usage.completion))
        else:
            lost = Amount(int(lease.is_sent)) if is_free or not lease.is_sent else leased
            self.spent += lost
            self._journal.append(release_frame(lease, requests=lost.requests, tokens=lost.tokens, usd=lost.usd))
        self._settled.set()

    async def lease_batch(self, endpoint: str, batch: str, lines: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Room for as many of the first lines of a batch as fit, at least one; see `Purse.lease_batch`."""
        price = self._batch_prices[endpoint]
        amounts = [Amount(1, prompt + most, cost_of(price, prompt, most)) for prompt, most in lines]
        while not (fitting := self._most_that_fit(amounts)):
            if not self._open:
                raise StoppedEarly(self._explain(amounts[0]))
            self._settled.clear()
            await self._settled.wait()
        wanted = sum(amounts[:fitting], start=Amount())
        lease = Lease(self._next, endpoint, wanted.tokens, wanted.usd, requests=fitting, is_batch=True)
        self._next += 1
        self._leased += wanted
        self._open[batch] = lease
        self._journal.append(lease_frame(batch, lease))
        return lease.number, fitting

    def restore_batch(self, batch: str, endpoint: str, number: int, leased: Amount) -> None:
        """The lease of a batch that an earlier process began, and that goes on."""
        self._open[batch] = Lease(number, endpoint, leased.tokens, leased.usd, requests=leased.requests, is_batch=True)
        self._leased += leased

    def settle_batch(self, batch: str, usage: Usage, *, answered: int, failed: int) -> None:
        """A batch came to its end; its answers are charged by what they used, the lines that failed as requests."""
        lease = self._open.pop(batch, None)
        if lease is None:
            return
        self._leased -= Amount(lease.requests, lease.tokens, lease.usd)
        cost_usd = cost_of(self._batch_prices[lease.endpoint], usage.prompt, usage.completion)
        self.spent += Amount(answered + failed, usage.total, cost_usd)
        self._journal.append(release_frame(lease, requests=failed, tokens=0, usd=0.0))
        self._settled.set()

    def _most_that_fit(self, amounts: Sequence[Amount]) -> int:
        """How many of the first amounts fit together."""
        total = Amount()
        for count, amount in enumerate(amounts):
            total += amount
            if not self._fits(total):
                return count
        return len(amounts)

    def as_json(self) -> dict[str, dict[str, float]]:
        """Per limit that is set: the limit and what was spent."""
        limits, spent = self._limits, self.spent
        found = {"usd": (limits.usd, spent.usd), "tokens": (limits.tokens, spent.tokens)}
        found["requests"] = (limits.requests, spent.requests)
        return {name: {"limit": limit, "spent": round(amount, 6)} for name, (limit, amount) in found.items() if limit}

    def _fits(self, wanted: Amount) -> bool:
        then, limits = self.spent + self._leased + wanted, self._limits
        return (
            (limits.requests is None or then.requests <= limits.requests)
            and (limits.tokens is None or then.tokens <= limits.tokens)
            and (limits.usd is None or then.usd <= limits.usd)
        )

    def _explain(self, wanted: Amount) -> str:
        spent = ", ".join(f"{each['spent']:g} of {each['limit']:g} {name}" for name, each in self.as_json().items())
        keys = " or ".join(f"budget.{name}" for name in self.as_json())
        return (
            f"the budget is spent: {spent}; one more request may take {wanted.tokens:,} tokens"
            + (f" and ${wanted.usd:.6f}" if self._limits.usd else "")
            + f"; raise {keys}, then run the same command again"
        )


@dataclass(frozen=True, slots=True)
class Purse:
    """One endpoint's hand in the budget."""

    budget: Budget
    endpoint: str

    async def lease(self, request: ChatRequest, prompt_tokens: int) -> Lease:
        """See `Budget.lease`."""
        return await self.budget.lease(self.endpoint, request, prompt_tokens)

    def settle(self, request: ChatRequest, lease: Lease, usage: Usage | None, *, is_free: bool) -> None:
        """See `Budget.settle`."""
        self.budget.settle(request, lease, usage, is_free=is_free)

    async def lease_batch(self, batch: str, lines: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """See `Budget.lease_batch`."""
        return await self.budget.lease_batch(self.endpoint, batch, lines)

    def settle_batch(self, batch: str, usage: Usage, *, answered: int, failed: int) -> None:
        """See `Budget.settle_batch`."""
        self.budget.settle_batch(batch, usage, answered=answered, failed=failed)
