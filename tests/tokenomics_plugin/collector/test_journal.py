from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.collector.config import CollectorError
from tokenomics_plugin.collector.journal import Journal, SegmentReader
from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.store import Payload

FileSizeLimit = Callable[[int], AbstractContextManager[None]]

PAYLOADS = [Payload(Signal.TRACES, b"first"), Payload(Signal.LOGS, b""), Payload(Signal.METRICS, b"third" * 100)]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal", segment_bytes=10_000)
    yield opened
    opened.close()


def sealed_segment(journal: Journal) -> Path:
    journal.seal()
    (segment,) = journal.sealed()
    return segment


def test_a_segment_returns_what_was_appended_in_order(journal: Journal) -> None:
    journal.append(PAYLOADS[:2])
    journal.append(PAYLOADS[2:])
    assert list(SegmentReader(sealed_segment(journal))) == PAYLOADS


@given(st.lists(st.builds(Payload, st.sampled_from(Signal), st.binary(max_size=50)), max_size=6), st.data())
def test_a_segment_cut_off_anywhere_returns_every_whole_record_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[Payload], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder, segment_bytes=10_000)
    ends = []
    for payload in [Payload(Signal.TRACES, b"starts the segment"), *payloads]:
        journal.append([payload])
        ends.append(journal.backlog_bytes)
    segment = sealed_segment(journal)
    journal.close()
    cut = data.draw(st.integers(0, segment.stat().st_size))
    with segment.open("r+b") as file:
        file.truncate(cut)
    whole = sum(end <= cut for end in ends)
    reader = SegmentReader(segment)
    assert list(reader) == [Payload(Signal.TRACES, b"starts the segment"), *payloads][:whole]
    assert reader.damage is None


def test_a_changed_record_is_reported_after_those_before_it(journal: Journal) -> None:
    journal.append(PAYLOADS)
    segment = sealed_segment(journal)
    content = segment.read_bytes()
    segment.write_bytes(content[:-1] + b"?")
    reader = SegmentReader(segment)
    assert list(reader) == PAYLOADS[:2]
    assert reader.damage is not None
    assert "checksum" in reader.damage


def test_a_file_that_is_no_segment_is_not_mistaken_for_one(tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(b"\xff\xd8\xff" * 100)
    reader = SegmentReader(tmp_path / "photo")
    assert list(reader) == []
    assert reader.damage is not None


def test_a_full_segment_is_followed_by_another(journal: Journal) -> None:
    for _ in range(3):
        journal.append([Payload(Signal.TRACES, bytes(9_990))])
    assert len(journal.sealed()) == 3


def test_the_segment_that_is_being_written_is_not_offered_for_loading(journal: Journal) -> None:
    journal.append(PAYLOADS)
    assert journal.sealed() == []


def test_backlog_counts_what_is_on_disk_until_it_is_removed(journal: Journal) -> None:
    journal.append(PAYLOADS)
    segment = sealed_segment(journal)
    assert journal.backlog_bytes == segment.stat().st_size
    journal.remove(segment)
    assert journal.backlog_bytes == 0
    assert not segment.exists()


def test_a_new_journal_offers_what_the_last_one_left_and_writes_elsewhere(tmp_path: Path) -> None:
    first = Journal(tmp_path, segment_bytes=10_000)
    first.append(PAYLOADS)
    first.close()
    second = Journal(tmp_path, segment_bytes=10_000)
    (left,) = second.sealed()
    second.append(PAYLOADS[:1])
    second.seal()
    assert list(SegmentReader(left)) == PAYLOADS
    assert len(second.sealed()) == 2
    second.close()


def test_a_journal_belongs_to_one_collector(tmp_path: Path, journal: Journal) -> None:
    with pytest.raises(CollectorError, match="another collector holds"):
        Journal(tmp_path / "journal", segment_bytes=10_000)


def test_a_failed_write_is_reported_and_leaves_nothing_behind(journal: Journal, file_size_limit: FileSizeLimit) -> None:
    journal.append(PAYLOADS)
    with file_size_limit(2_000), pytest.raises(OSError, match="too large"):
        journal.append([Payload(Signal.TRACES, bytes(5_000))])
    journal.append(PAYLOADS[:1])
    journal.seal()
    assert [list(SegmentReader(segment)) for segment in journal.sealed()] == [PAYLOADS, PAYLOADS[:1]]


def test_a_disk_that_cannot_even_begin_a_segment_recovers(journal: Journal, file_size_limit: FileSizeLimit) -> None:
    with file_size_limit(3), pytest.raises(OSError, match="too large"):
        journal.append(PAYLOADS)
    journal.append(PAYLOADS)
    assert list(SegmentReader(sealed_segment(journal))) == PAYLOADS
