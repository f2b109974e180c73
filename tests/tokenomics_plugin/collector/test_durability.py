import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tokenomics_plugin.collector import Addresses, Collector, CollectorConfig, CollectorError

MakeRequest = Callable[..., ExportTraceServiceRequest]
Post = Callable[..., tuple[int, dict[str, str], bytes]]
Start = Callable[..., Addresses]
Spawn = Callable[..., Any]
StoredNumbers = Callable[[], list[int]]


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def segments(db: Path) -> list[Path]:
    return sorted((db.parent / f"{db.name}.journal").glob("*.segment"))


def test_what_was_acknowledged_survives_kill_9(
    spawn: Spawn, post: Post, make_request: MakeRequest, stored_numbers: StoredNumbers
) -> None:
    first = spawn(load_interval_s=60)
    for number in range(1, 21):
        assert post(first.addresses, make_request(number).SerializeToString())[0] == 200
    assert first.signal(signal.SIGKILL) == -signal.SIGKILL
    assert spawn().signal(signal.SIGTERM) == 0
    assert stored_numbers() == list(range(1, 21))


def test_kill_9_while_loading_neither_loses_nor_doubles(
    spawn: Spawn, post: Post, make_request: MakeRequest, stored_numbers: StoredNumbers
) -> None:
    acknowledged = []
    for life in range(2):
        collector = spawn(load_interval_s=0.001)
        killer = threading.Timer(0.5 + 0.5 * life, collector.process.kill)
        killer.start()
        for number in range(1 + 1_000 * life, 1_000 * (life + 1)):
            try:
                status, _, _ = post(collector.addresses, make_request(number).SerializeToString())
            except OSError:
                break
            assert status == 200
            acknowledged.append(number)
        killer.join()
    assert spawn().signal(signal.SIGTERM) == 0
    stored = stored_numbers()
    assert len(set(stored)) == len(stored)
    assert set(acknowledged) <= set(stored)


def test_a_request_that_arrives_again_after_it_was_stored_is_stored_once(
    start: Start, post: Post, make_request: MakeRequest, db: Path, running: ExitStack, stored_numbers: StoredNumbers
) -> None:
    addresses = start()
    for _ in range(2):
        assert post(addresses, make_request(1).SerializeToString())[0] == 200
        wait_until(lambda: not segments(db))
    running.close()
    assert stored_numbers() == [1]


def test_a_record_cut_off_by_a_crash_costs_nothing_else(
    spawn: Spawn, post: Post, make_request: MakeRequest, db: Path, stored_numbers: StoredNumbers
) -> None:
    first = spawn(load_interval_s=60)
    assert post(first.addresses, make_request(1).SerializeToString())[0] == 200
    first.signal(signal.SIGKILL)
    (segment,) = segments(db)
    content = segment.read_bytes()
    record = content[content.index(b"\n") + 1 :]
    segment.write_bytes(content + record[:-20])
    second = spawn()
    assert post(second.addresses, make_request(2).SerializeToString())[0] == 200
    assert second.signal(signal.SIGTERM) == 0
    assert stored_numbers() == [1, 2]
    assert [path.name for path in (db.parent / f"{db.name}.journal").iterdir()] == ["lock"]


def test_a_damaged_segment_is_kept_and_holds_up_nothing(
    spawn: Spawn, post: Post, make_request: MakeRequest, db: Path, stored_numbers: StoredNumbers
) -> None:
    first = spawn(load_interval_s=60)
    for number in (1, 2):
        assert post(first.addresses, make_request(number).SerializeToString())[0] == 200
    first.signal(signal.SIGKILL)
    (segment,) = segments(db)
    segment.write_bytes(segment.read_bytes()[:-1] + b"?")
    second = spawn()
    assert post(second.addresses, make_request(3).SerializeToString())[0] == 200
    assert second.signal(signal.SIGTERM) == 0
    assert stored_numbers() == [1, 3]
    assert segment.with_suffix(".unreadable").exists()


def loader_of(collector: psutil.Process) -> psutil.Process:
    """The loading process; the tests' own process may have other children, such as `multiprocessing`'s."""
    (loader,) = (child for child in collector.children() if any("load_worker" in part for part in child.cmdline()))
    return loader


def test_a_killed_loading_process_is_replaced(
    start: Start, post: Post, make_request: MakeRequest, db: Path, running: ExitStack, stored_numbers: StoredNumbers
) -> None:
    addresses = start()
    for number in (1, 2):
        assert post(addresses, make_request(number).SerializeToString())[0] == 200
        wait_until(lambda: not segments(db))
        loader_of(psutil.Process()).kill()
    running.close()
    assert stored_numbers() == [1, 2]


def test_the_loading_process_does_not_outlive_a_killed_collector(
    spawn: Spawn, post: Post, make_request: MakeRequest, db: Path
) -> None:
    collector = spawn()
    assert post(collector.addresses, make_request(1).SerializeToString())[0] == 200
    wait_until(lambda: not segments(db))
    loader = loader_of(psutil.Process(collector.process.pid))
    collector.signal(signal.SIGKILL)
    loader.wait(timeout=30)


def test_a_reader_may_look_while_the_collector_runs(
    start: Start, post: Post, make_request: MakeRequest, db: Path, stored_numbers: StoredNumbers
) -> None:
    addresses = start()
    assert post(addresses, make_request(1).SerializeToString())[0] == 200
    wait_until(lambda: not segments(db))
    assert stored_numbers() == [1]


def test_loading_waits_for_a_reader(
    start: Start, post: Post, make_request: MakeRequest, db: Path, running: ExitStack, stored_numbers: StoredNumbers
) -> None:
    addresses = start()
    with duckdb.connect(str(db), read_only=True):
        assert post(addresses, make_request(1).SerializeToString())[0] == 200
        time.sleep(0.5)  # several turns of the loader
        assert segments(db)
    running.close()
    assert stored_numbers() == [1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_when_all_is_stored(
    spawn: Spawn, post: Post, make_request: MakeRequest, stored_numbers: StoredNumbers, number: signal.Signals
) -> None:
    collector = spawn(load_interval_s=60)
    assert post(collector.addresses, make_request(1).SerializeToString())[0] == 200
    assert collector.signal(number) == 0
    assert stored_numbers() == [1]


def test_a_second_signal_ends_it_at_once_and_the_journal_keeps_the_rest(
    spawn: Spawn, post: Post, make_request: MakeRequest, db: Path, stored_numbers: StoredNumbers
) -> None:
    collector = spawn()
    with duckdb.connect(str(db), read_only=True):
        assert post(collector.addresses, make_request(1).SerializeToString())[0] == 200
        collector.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert collector.process.poll() is None
        assert collector.signal(signal.SIGTERM) == 128 + signal.SIGTERM
    assert spawn().signal(signal.SIGTERM) == 0
    assert stored_numbers() == [1]


def test_a_store_that_stays_locked_does_not_keep_it_from_stopping(
    start: Start, post: Post, make_request: MakeRequest, db: Path, running: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    addresses = start(drain_timeout_s=0.2)
    with duckdb.connect(str(db), read_only=True):
        assert post(addresses, make_request(1).SerializeToString())[0] == 200
        running.close()
    assert segments(db)
    assert "its journal keeps" in caplog.text


def test_two_collectors_do_not_share_a_database(start: Start) -> None:
    start()
    with pytest.raises(CollectorError, match="another collector holds"):
        start()


@pytest.mark.parametrize("port", ["http_port", "grpc_port"])
def test_a_taken_port_is_named(start: Start, tmp_path: Path, port: str) -> None:
    taken = getattr(start(), port)
    with pytest.raises(CollectorError, match=f"{taken}"):
        start(db=tmp_path / "other.duckdb", **{port: taken})


def test_a_database_that_is_none_is_refused(start: Start, db: Path) -> None:
    db.write_bytes(b"not a database")
    with pytest.raises(CollectorError, match=db.name):
        start()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CollectorError, match="cannot write beside"):
        Collector(CollectorConfig(db=tmp_path / "file" / "x.duckdb", http_port=0, grpc_port=0)).start()


def test_stopping_twice_is_harmless(db: Path) -> None:
    collector = Collector(CollectorConfig(db=db, http_port=0, grpc_port=0))
    collector.start()
    collector.stop()
    collector.stop()
