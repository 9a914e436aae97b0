"""Work with gateways that are busy, unreachable or refuse requests; the manifest."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from gateway.commands.files import FileState, write_file
from gateway.commands.inputs import Job
from gateway.commands.manifest import FILE_NAME, Manifest, ManifestUnusable, Record
from gateway.commands.picture_worker import Route, RunTally, Worker
from gateway.commands.selection import select
from gateway.gateway_client import GatewayGone, PatientClient, Refused

pytestmark = pytest.mark.anyio
BY = {"version": "1", "finder": "haar"}


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    made = []
    for number in range(4):
        (source := tmp_path / f"{number}.png").write_bytes(b"%d" % number)
        made.append(Job(source, Path(f"sub/{number}.png"), "png"))
    return made


class Runs:
    """Runs `jobs` against a gateway with the responses of `answer`."""

    def __init__(self, jobs: list[Job], out: Path) -> None:
        self.jobs, self.out, self.tally, self.manifest = jobs, out, RunTally(), Manifest.read(out)

    async def __call__(self, answer, patience_s: float = 5.0, concurrency: int = 2) -> None:
        due = select(self.jobs, self.out, self.manifest, lambda job: {"format": "png"}, BY, False).due
        transport = httpx.MockTransport(answer)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            worker = Worker(
                PatientClient(client, patience_s), Route("/v1/enhance", {"strength": "3"}), self.out,
                self.manifest, self.tally, report=None, on_progress=lambda due, reason: None,
            )  # fmt: skip
            await worker.run(due, concurrency)


@pytest.fixture
def runs(jobs: list[Job], tmp_path: Path) -> Runs:
    return Runs(jobs, tmp_path / "out")


def picture(request: httpx.Request) -> httpx.Response:
    assert dict(request.url.params) == {"strength": "3", "format": "png"}
    return httpx.Response(200, content=b"made of " + request.content, headers={"content-type": "image/png"})


def later(status: int = 429) -> httpx.Response:
    problem = {"title": "The queue is full", "detail": "try again later"}
    return httpx.Response(status, json=problem, headers={"Retry-After": "0.1"})


async def test_writes_and_records_results(runs, jobs):
    await runs(picture)
    assert (runs.out / "sub/2.png").read_bytes() == b"made of 2"
    assert runs.tally.done == 4
    again = select(jobs, runs.out, Manifest.read(runs.out), lambda job: {"format": "png"}, BY, False)
    assert (again.due, again.unchanged) == ([], 4)


@pytest.mark.parametrize("status", [429, 503])
async def test_retries_while_the_gateway_is_busy(runs, status):
    requests = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request.content)
        return picture(request) if requests.count(request.content) == 2 else later(status)

    await runs(answer)
    assert runs.tally.done == 4
    assert len(requests) == 8


async def test_retries_while_the_gateway_is_unreachable(runs):
    requests = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal requests
        requests += 1
        if requests == 1:
            raise httpx.ConnectError("refused")
        return picture(request)

    await runs(answer)
    assert runs.tally.done == 4


async def test_gives_up_on_a_busy_gateway_and_keeps_finished_results(runs, jobs):
    def answer(request: httpx.Request) -> httpx.Response:
        return picture(request) if request.content == b"0" else later(503)

    with pytest.raises(GatewayGone, match="try again later"):
        await runs(answer, patience_s=0.3)
    left = select(jobs, runs.out, Manifest.read(runs.out), lambda job: {"format": "png"}, BY, False)
    assert [due.reason for due in left.due] == ["unfinished"] * 3
    assert left.unchanged == 1


async def test_missing_api_key_ends_the_run_at_once(runs):
    requests = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(401, json={"title": "An API key is needed", "detail": "send one"})

    with pytest.raises(Refused, match="An API key is needed: send one"):
        await runs(answer, concurrency=1)
    assert len(requests) == 1


async def test_processes_unfinished_results_of_a_crashed_run_again(runs, jobs):
    """The manifest names every output before a run writes it."""

    def answer(request: httpx.Request) -> httpx.Response:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await runs(answer)
    write_file(runs.out / jobs[0].output, b"half known")
    left = select(jobs, runs.out, Manifest.read(runs.out), lambda job: {"format": "png"}, BY, False)
    assert [due.reason for due in left.due] == ["unfinished"] * 4
    assert left.in_the_way == []


async def test_missing_input_does_not_affect_the_others(runs, jobs):
    jobs[1].source.unlink()
    await runs(picture)
    assert runs.tally.done == 3
    assert runs.tally.failed == [(jobs[1].source, "it cannot be read: No such file or directory")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda job, out: job.source.write_bytes(b"other"), "input"),
        (lambda job, out: (out / job.output).unlink(), "output"),
        (lambda job, out: (out / job.output).write_bytes(b"other"), "output"),
        (lambda job, out: job.source.touch(), None),
    ],
    ids=["input", "output gone", "output changed", "touched"],
)
async def test_processes_changed_files_again(runs, jobs, change, reason):
    await runs(picture)
    change(jobs[2], runs.out)
    due = select(jobs, runs.out, Manifest.read(runs.out), lambda job: {"format": "png"}, BY, False).due
    assert [(one.job, one.reason) for one in due] == ([(jobs[2], reason)] if reason else [])


async def test_other_parameters_or_another_gateway_make_every_result_due(runs, jobs):
    await runs(picture)

    def reasons(parameters: dict[str, str], by: dict[str, str]) -> set[str]:
        due = select(jobs, runs.out, Manifest.read(runs.out), lambda job: parameters, by, False).due
        return {one.reason for one in due}

    assert reasons({"format": "png", "strength": "9"}, BY) == {"parameters"}
    assert reasons({"format": "png"}, {**BY, "version": "2"}) == {"gateway"}


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 1}', b'{"version": 99, "results": {}}'])
async def test_rejects_an_invalid_manifest(tmp_path, content):
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(ManifestUnusable, match="delete it, or use --force"):
        Manifest.read(tmp_path)


async def test_manifest_round_trip(tmp_path):
    manifest = Manifest(tmp_path)
    state = FileState(3, 4, "5")
    manifest.records["a/b.png"] = Record("/x", {"quality": 5, "model": None}, BY, state, state)
    manifest.records["c.png"] = Record("/y", {}, BY)
    await manifest.save_periodically()
    assert Manifest.read(tmp_path).records == manifest.records
    assert json.loads((tmp_path / FILE_NAME).read_text())["version"] == 1


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    write_file(tmp_path / "a", b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_file(tmp_path / "a", b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", b"old")]
