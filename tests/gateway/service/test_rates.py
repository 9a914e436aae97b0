"""Requests are counted by caller, and answers tell what is left."""

import asyncio

import pytest
from pydantic import TypeAdapter, ValidationError

from gateway.service.rates import Rates, RateText

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("text", ["60/minute", "10/5 seconds", "1 per day", "2/HOUR"])
def test_a_rate_is_written_as_people_do(text):
    assert TypeAdapter(RateText).validate_python(text) == text


@pytest.mark.parametrize("text", ["", "60", "often", "0/minute", "-1/minute", "1/minute;2/hour", "1/moon"])
def test_a_rate_that_is_none_is_refused(text):
    with pytest.raises(ValidationError):
        TypeAdapter(RateText).validate_python(text)


async def test_what_is_allowed_counts_down_and_then_is_exceeded():
    rates = Rates()
    quotas = [await rates.take("somebody", "3/day") for _ in range(5)]
    assert [quota.remaining for quota in quotas] == [2, 1, 0, 0, 0]
    assert [quota.exceeded for quota in quotas] == [False] * 3 + [True] * 2
    assert all(1 <= quota.reset_s <= 86_400 for quota in quotas)


async def test_callers_do_not_count_for_each_other():
    rates = Rates()
    assert not (await rates.take("one", "1/day")).exceeded
    assert (await rates.take("one", "1/day")).exceeded
    assert not (await rates.take("other", "1/day")).exceeded


async def test_requests_at_the_same_moment_get_no_more_than_the_rate():
    rates = Rates()
    quotas = await asyncio.gather(*(rates.take("somebody", "10/day") for _ in range(50)))
    assert sum(not quota.exceeded for quota in quotas) == 10


async def test_after_the_wait_that_was_told_there_is_one_more():
    rates = Rates()
    while not (quota := await rates.take("somebody", "2/second")).exceeded:
        pass
    await asyncio.sleep(quota.reset_s)
    assert not (await rates.take("somebody", "2/second")).exceeded


async def test_headers_are_the_drafts_structured_fields():
    quota = await Rates().take("somebody", "60/2 days")
    assert quota.headers["RateLimit-Policy"] == '"default";q=60;w=172800'
    assert quota.headers["RateLimit"] == f'"default";r=59;t={quota.reset_s}'


async def test_callers_that_come_no_more_are_forgotten():
    rates = Rates()
    for number in range(50):
        await rates.take(f"address:{number}", "1/second")
    # Two windows, and a request that sweeps.
    await asyncio.sleep(2.1)
    await rates.take("somebody", "1/second")
    await asyncio.sleep(0.01)
    assert len(rates._limiter.storage.storage) <= 2
