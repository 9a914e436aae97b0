"""Rate limits per caller."""

import asyncio

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.service.rates import Rates, RateText

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("text", ["60/minute", "10/5 seconds", "1 per day", "2/HOUR"])
def test_accepts_rates_in_common_notations(text):
    assert TypeAdapter(RateText).validate_python(text) == text


@pytest.mark.parametrize("text", ["", "60", "often", "0/minute", "-1/minute", "1/minute;2/hour", "1/moon"])
def test_rejects_invalid_rates(text):
    with pytest.raises(ValidationError):
        TypeAdapter(RateText).validate_python(text)


async def test_quota_counts_down_until_exceeded():
    rates = Rates()
    quotas = [await rates.take("caller", "3/day") for _ in range(5)]
    assert [quota.remaining for quota in quotas] == [2, 1, 0, 0, 0]
    assert [quota.exceeded for quota in quotas] == [False] * 3 + [True] * 2
    assert all(1 <= quota.reset_s <= 86_400 for quota in quotas)


async def test_callers_have_separate_quotas():
    rates = Rates()
    assert not (await rates.take("one", "1/day")).exceeded
    assert (await rates.take("one", "1/day")).exceeded
    assert not (await rates.take("other", "1/day")).exceeded


async def test_concurrent_requests_do_not_exceed_the_rate():
    rates = Rates()
    quotas = await asyncio.gather(*(rates.take("caller", "10/day") for _ in range(50)))
    assert sum(not quota.exceeded for quota in quotas) == 10


async def test_allows_a_request_after_the_reported_wait():
    rates = Rates()
    while not (quota := await rates.take("caller", "2/second")).exceeded:
        pass
    await asyncio.sleep(quota.reset_s)
    assert not (await rates.take("caller", "2/second")).exceeded


async def test_headers_follow_the_ratelimit_draft():
    quota = await Rates().take("caller", "60/2 days")
    assert quota.headers["RateLimit-Policy"] == '"default";q=60;w=172800'
    assert quota.headers["RateLimit"] == f'"default";r=59;t={quota.reset_s}'


async def test_forgets_inactive_callers():
    rates = Rates()
    for number in range(50):
        await rates.take(f"address:{number}", "1/second")
    # After two windows, the next request removes expired counters.
    await asyncio.sleep(2.1)
    await rates.take("caller", "1/second")
    await asyncio.sleep(0.01)
    assert len(rates._limiter.storage.storage) <= 2
