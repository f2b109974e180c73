"""The pages of a running collector: who may read them, what they hold, and that they follow the store."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import copy
from typing import NamedTuple

import psutil
import pytest

from tokenomics_plugin.collector import Addresses, Collector, CollectorConfig

PATIENCE_S = 60


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: str


def get(addresses: Addresses, path: str, **headers: str) -> Answer:
    host, _, port = addresses.http.rpartition(":")
    with closing(http.client.HTTPConnection(host.strip("[]"), int(port), timeout=PATIENCE_S)) as connection:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read().decode())


def settled(addresses: Addresses, path: str, **headers: str) -> Answer:
    """The answer once the store has been read for the first time."""
    deadline = time.monotonic() + PATIENCE_S
    while (answer := get(addresses, path, **headers)).status == 503 and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer


@contextmanager
def serving(db: Path, token: str | None = None) -> Iterator[Addresses]:
    with Collector(CollectorConfig(db=db, http_port=0, grpc_port=0, token=token)) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def server(busy_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """A collector over the busy store, one for all that only read."""
    db = Path(copy(busy_store, tmp_path_factory.mktemp("server") / "busy.duckdb"))
    with serving(db) as addresses:
        assert settled(addresses, "/finance").status == 200
        yield addresses


@pytest.mark.parametrize("view", ["finance", "engineering", "developer", "runs", "tasks", "findings"])
def test_every_view_is_a_page_and_says_the_same_to_programs(server: Addresses, view: str) -> None:
    page, document = get(server, f"/{view}"), get(server, f"/api/{view}")
    assert (page.status, document.status) == (200, 200)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    said = json.loads(document.body)
    assert said["id"] == view
    assert all(section["title"] in page.body.replace("&#x27;", "'") for section in said["sections"])
    assert 'aria-current="page"' in page.body


def test_the_start_leads_to_the_first_page(server: Addresses) -> None:
    answer = get(server, "/")
    assert (answer.status, answer.headers["location"]) == (307, "/finance")


def test_a_figure_leads_to_its_spans(server: Addresses) -> None:
    runs = json.loads(get(server, "/api/runs?agent=critic").body)
    cell = runs["sections"][0]["blocks"][0]["rows"][0][0]
    trace_id = cell["link"]["parameters"]["trace_id"]
    trace = get(server, f"/trace/{trace_id}")
    assert trace.status == 200
    span_id = json.loads(get(server, f"/api/trace/{trace_id}").body)["sections"][0]["blocks"]
    spans = next(block for block in span_id if block["id"] == "spans")
    first = spans["rows"][0][0]["link"]["parameters"]["span_id"]
    shown = get(server, f"/trace/{trace_id}?span={first}")
    assert "gen_ai.operation.name" in shown.body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/runs?colour=red", 400),
        ("/runs?page=0", 400),
        ("/trace/" + "0" * 32, 404),
        ("/nothing", 404),
        ("/assets/secrets", 404),
        ("/assets/..%2Fpage.html", 404),
        ("/runs?q=" + "x" * 5_000, 414),
    ],
)
def test_what_cannot_be_shown_says_why(server: Addresses, path: str, status: int) -> None:
    answer = get(server, path)
    assert answer.status == status
    assert answer.body.strip()


def test_scripts_and_styles_come_from_here(server: Addresses) -> None:
    for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript"), ("plotly.min.js", "text/javascript")):
        answer = get(server, f"/assets/{name}")
        assert answer.status == 200
        assert answer.headers["content-type"].startswith(kind)


def test_no_other_page_may_read_frame_or_script_these(server: Addresses) -> None:
    headers = get(server, "/finance").headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "access-control-allow-origin" not in headers
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:4318", "127.0.0.1.evil.example"])
def test_a_strangers_domain_that_points_here_is_refused(server: Addresses, host: str) -> None:
    assert get(server, "/finance", Host=host).status == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:4318", "127.0.0.1:1"])
def test_the_names_of_this_machine_are_answered(server: Addresses, host: str) -> None:
    assert get(server, "/finance", Host=host).status == 200


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()


def test_with_a_token_only_who_knows_it_may_read(busy_store: Path, tmp_path: Path) -> None:
    with serving(Path(copy(busy_store, tmp_path / "busy.duckdb")), token="sesame") as addresses:
        refused = get(addresses, "/finance")
        assert refused.status == 401
        assert refused.headers["www-authenticate"].startswith("Basic realm=")
        for wrong in (basic("wrong"), "Bearer wrong", "Basic %%%", "Basic", "sesame", ""):
            assert get(addresses, "/finance", Authorization=wrong).status == 401
        assert settled(addresses, "/finance", Authorization=basic("sesame")).status == 200
        assert get(addresses, "/api/runs", Authorization="Bearer sesame").status == 200
        assert get(addresses, "/runs", Authorization="Bearer sesame", Host="collector.example").status == 200


def analysts() -> set[int]:
    """Ids of analysts' processes that this process started."""
    children = psutil.Process().children()
    return {child.pid for child in children if any("analyst_process" in part for part in child.cmdline())}


def test_the_process_behind_the_pages_starts_with_the_first_reader_and_again_when_it_dies(
    busy_store: Path, tmp_path: Path
) -> None:
    before = analysts()
    with serving(Path(copy(busy_store, tmp_path / "busy.duckdb"))) as addresses:
        assert get(addresses, "/healthz").status == 200
        assert analysts() == before, "nobody has asked for a page yet"
        assert settled(addresses, "/runs").status == 200
        (process,) = analysts() - before
        os.kill(process, signal.SIGKILL)
        assert settled(addresses, "/runs").status == 200
    assert analysts() == before, "it ends with the collector"


def test_pages_follow_the_store(busy_store: Path, tmp_path: Path, one_more_run: bytes) -> None:
    with serving(Path(copy(busy_store, tmp_path / "busy.duckdb"))) as addresses:
        assert "60 runs." in settled(addresses, "/runs").body
        host, _, port = addresses.http.rpartition(":")
        with closing(http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)) as connection:
            connection.request("POST", "/v1/traces", one_more_run, {"Content-Type": "application/x-protobuf"})
            assert connection.getresponse().status == 200
        deadline = time.monotonic() + PATIENCE_S
        while "61 runs." not in get(addresses, "/runs").body:
            assert time.monotonic() < deadline, "the new run never showed"
            time.sleep(0.5)
