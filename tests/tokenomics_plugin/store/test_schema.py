from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tokenomics_plugin.errors import StoreError
from tokenomics_plugin.store import SCHEMA, SCHEMA_VERSION, TraceStore
from tokenomics_plugin.store.schema import bring_up_to_date, create


def set_version(db: Path, version: int) -> None:
    TraceStore(db).close()
    with duckdb.connect(str(db)) as connection:
        connection.execute("UPDATE tokenomics_schema SET Version = ?", [version])


def test_a_missing_store_is_created(db: Path) -> None:
    with TraceStore(db) as store:
        assert list(store.spans()) == []

    assert [path.name for path in db.parent.iterdir()] == [db.name]


def test_a_store_is_created_where_the_file_system_has_no_links(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: Any) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr("os.link", link)

    with TraceStore(db) as store:
        assert list(store.spans()) == []


def test_a_missing_store_is_not_created_for_reading(db: Path) -> None:
    with pytest.raises(StoreError, match=r"traces\.duckdb: no such store; `tokenomics collect` or"):
        TraceStore(db, read_only=True)

    assert not db.exists()


def test_a_store_in_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be created"):
        TraceStore(tmp_path / "nowhere" / "traces.duckdb")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_of_a_newer_version_is_left_alone(db: Path, read_only: bool) -> None:
    set_version(db, SCHEMA_VERSION + 1)

    with pytest.raises(StoreError, match=f"has schema {SCHEMA_VERSION + 1}, this one knows {SCHEMA_VERSION}"):
        TraceStore(db, read_only=read_only)


def test_an_older_store_is_migrated_step_by_step() -> None:
    migrations = {
        SCHEMA_VERSION: "ALTER TABLE otel_logs ADD COLUMN A INTEGER DEFAULT 1",
        SCHEMA_VERSION + 1: "ALTER TABLE otel_logs RENAME COLUMN A TO B",
    }
    with duckdb.connect() as connection:
        create(connection)

        bring_up_to_date(connection, read_only=False, target=SCHEMA_VERSION + 2, migrations=migrations)

        assert connection.execute("SELECT B FROM otel_logs").fetchall() == []
        assert connection.execute("SELECT Version FROM tokenomics_schema").fetchall() == [(SCHEMA_VERSION + 2,)]


def test_a_migration_that_fails_is_undone_whole() -> None:
    migrations = {SCHEMA_VERSION: "DROP TABLE otel_logs; SELECT * FROM nothing"}
    with duckdb.connect() as connection:
        create(connection)

        with pytest.raises(duckdb.Error):
            bring_up_to_date(connection, read_only=False, target=SCHEMA_VERSION + 1, migrations=migrations)
        connection.execute("ROLLBACK")

        assert connection.execute("SELECT Version FROM tokenomics_schema").fetchall() == [(SCHEMA_VERSION,)]
        assert connection.execute("FROM otel_logs").fetchall() == []


def test_an_older_store_cannot_be_migrated_while_it_is_open_for_reading(db: Path) -> None:
    set_version(db, SCHEMA_VERSION - 1)

    with pytest.raises(StoreError, match="open it once for writing"):
        TraceStore(db, read_only=True)


def test_a_file_of_another_format_is_refused(db: Path) -> None:
    db.write_text("{}\n" * 5000, encoding="utf-8")

    with pytest.raises(StoreError, match=r"traces\.duckdb: not a DuckDB file; use another path"):
        TraceStore(db)

    assert db.read_text(encoding="utf-8") == "{}\n" * 5000


def test_an_sqlite_database_is_refused_without_looking_for_a_reader_of_it(db: Path) -> None:
    with sqlite3.connect(db) as connection:
        connection.execute("CREATE TABLE spans (id)")
    connection.close()

    with pytest.raises(StoreError, match="not a DuckDB file"):
        TraceStore(db)


@pytest.mark.parametrize("read_only", [False, True])
def test_an_empty_file_is_refused(db: Path, read_only: bool) -> None:
    db.touch()

    with pytest.raises(StoreError, match="not a DuckDB file"):
        TraceStore(db, read_only=read_only)


def test_a_duckdb_database_of_something_else_is_refused(db: Path) -> None:
    with duckdb.connect(str(db)) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER)")

    with pytest.raises(StoreError, match="not a store of traces"):
        TraceStore(db)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=re.escape(str(tmp_path))):
        TraceStore(tmp_path)


def test_every_table_has_what_its_comments_promise(db: Path) -> None:
    TraceStore(db).close()

    with duckdb.connect(str(db), read_only=True) as connection:
        tables: list[Any] = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    assert {name for (name,) in tables} == set(re.findall(r"CREATE TABLE (\w+)", SCHEMA))
