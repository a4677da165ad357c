from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from stillhouse.core.errors import StoreError
from stillhouse.core.learning import AnswerShape, Task
from stillhouse.core.serving import PolicyEvent
from stillhouse.store.opening import existing_store, open_store
from stillhouse.store.schema import MIGRATIONS
from stillhouse.testing.store_entries import an_entry, count, keep, numbers, refused

psycopg = pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

from stillhouse.store.postgres import PostgresStore  # noqa: E402
from stillhouse.store.postgres_address import read_address  # noqa: E402
from stillhouse.store.postgres_server import PostgresDatabase  # noqa: E402

NewSchema = Callable[[], str]
LABELS = Task("intents", "sig", AnswerShape.LABELS, "Classify: {}", ("a", "b"), (), tagged=True)

DISK_FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'could not extend file "base/1/2": No space left on device'
    USING ERRCODE = 'disk_full';
END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON charges EXECUTE FUNCTION full_disk();
"""
SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_sleep(60); RETURN NEW;
END $$;
CREATE TRIGGER slow BEFORE INSERT ON charges EXECUTE FUNCTION slow();
"""
DIES_AT_COMMIT = """
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(0.01); RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER die AFTER INSERT ON artefacts DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION die();
"""


@pytest.fixture
def dsn(new_schema: NewSchema) -> str:
    return new_schema()


@pytest.fixture
def store(dsn: str) -> Iterator[PostgresStore]:
    with PostgresStore(dsn) as opened:
        yield opened


def own_number(store: PostgresStore) -> int:
    """The server's number of the connection that writes."""
    (pid,) = store.database.connection.execute("SELECT pg_backend_pid()").fetchone()
    return int(pid)


def cut(dsn: str, *pids: int) -> None:
    with psycopg.connect(read_address(dsn).conninfo, autocommit=True) as other:
        for pid in pids:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


def also(dsn: str, options: str) -> str:
    return f"{dsn}&options={options}"


def test_a_connection_lost_within_a_step_undoes_it_and_the_next_step_has_another(
    store: PostgresStore, dsn: str
) -> None:
    def step() -> None:
        with store.database.transaction() as connection:
            connection.execute("INSERT INTO prices VALUES ('p', '{}')")
            cut(dsn, own_number(store))
            connection.execute("INSERT INTO prices VALUES ('q', '{}')")

    sentence = refused(step, "a step without a connection")
    assert "ended the connection" in sentence
    assert "this step was undone whole" in sentence
    assert count(store, "prices") == 0
    assert keep(store, [an_entry(1)]) == (1, 0, ())


def test_a_connection_lost_between_steps_is_not_noticed(store: PostgresStore, dsn: str) -> None:
    keep(store, [an_entry(1)])
    ((reader,),) = store.database.rows("SELECT pg_backend_pid()")
    cut(dsn, own_number(store), reader)
    assert keep(store, [an_entry(2)]) == (1, 0, ())
    assert numbers(store.exchanges()) == [1, 2]


def test_a_reading_that_is_cut_off_is_said_and_can_be_begun_anew(
    store: PostgresStore, dsn: str
) -> None:
    keep(store, [an_entry(n, at_us=n, asked="long " * 2000) for n in range(2000)])
    rows = store.database.rows("SELECT pg_backend_pid(), messages FROM exchanges")
    cut(dsn, next(rows)[0])
    told = refused(lambda: list(rows), "a reading without a connection")
    assert "was lost" in told or "ended the connection" in told  # the server's last word may arrive
    assert numbers(store.exchanges()) == list(range(2000))


def test_a_connection_lost_while_a_step_is_kept_leaves_it_open_whether_it_was(
    store: PostgresStore,
) -> None:
    store.database.connection.execute(DIES_AT_COMMIT)
    sentence = refused(lambda: store.put_artefact(b"weights"), "a commit without an end")
    assert "whether this step was kept is not known" in sentence
    store.database.connection.execute("DROP TRIGGER die ON artefacts")
    assert store.get_artefact(store.put_artefact(b"weights")) == b"weights"


@pytest.mark.parametrize(
    ("trouble", "options", "sentence"),
    [
        (DISK_FULL, "", "has no room left to write .*: this step was undone whole; free some disk"),
        (SLOW, "-cstatement_timeout=50", "stopped this step .*statement timeout.* raise statement"),
    ],
    ids=["disk full", "statement timeout"],
)
def test_a_step_that_fails_in_the_server_is_undone_and_said(
    dsn: str, trouble: str, options: str, sentence: str
) -> None:
    with PostgresStore(dsn) as store:
        store.database.connection.execute(trouble)
    with PostgresStore(also(dsn, options)) as store:
        with pytest.raises(StoreError, match=sentence) as failure:
            keep(store, [an_entry(1)])
        assert "\n" not in str(failure.value)
        assert store.place in str(failure.value)
        assert count(store, "exchanges") == count(store, "routes") == 0
        name = trouble.split()[2].removesuffix("()")
        store.database.connection.execute(f"DROP TRIGGER {name} ON charges")
        assert keep(store, [an_entry(1)]) == (1, 0, ())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("-crole=pg_monitor", "the user has no right to do this at .*; grant it CREATE"),
        ("-cdefault_transaction_read_only=on", "is read-only, as a standby is"),
    ],
    ids=["no rights", "read-only"],
)
def test_a_place_where_no_tables_can_be_made_is_said(dsn: str, options: str, sentence: str) -> None:
    with pytest.raises(StoreError, match=sentence):
        open_store(also(dsn, options))


def test_a_server_that_does_not_answer_is_said_without_the_password() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        with pytest.raises(
            StoreError, match=r"cannot be reached .*; see that the server"
        ) as failure:
            open_store(f"postgresql://ana:hush@127.0.0.1:{port}/books")
    assert f"postgresql://ana@127.0.0.1:{port}/books" in str(failure.value)
    assert "hush" not in f"{failure.value} {failure.value.__cause__!r}"
    assert "\n" not in str(failure.value)


def test_a_database_that_does_not_exist_is_said(postgres_dsn: str) -> None:
    missing = psycopg.conninfo.conninfo_to_dict(postgres_dsn)
    place = f"postgresql://{missing['user']}@{missing['host']}:{missing['port']}/no_such_books"
    with pytest.raises(StoreError, match=r"cannot be reached .*no_such_books.* createdb"):
        open_store(place)


def test_a_report_does_not_make_tables(dsn: str) -> None:
    with pytest.raises(StoreError, match=r"there are no books at .* run `stillhouse import`"):
        existing_store(dsn)
    with pytest.raises(StoreError, match="there are no books"):
        existing_store(dsn)
    open_store(dsn).close()
    existing_store(dsn).close()


def test_processes_that_open_a_new_place_together_make_its_tables_once(dsn: str) -> None:
    def opened(n: int) -> int:
        with open_store(dsn) as store:
            return keep(store, [an_entry(n)])[0]

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(opened, range(6))) == [1] * 6
    with open_store(dsn) as store:
        assert count(store, "stillhouse_migrations") == len(MIGRATIONS)
        assert sorted(numbers(store.exchanges())) == list(range(6))


def database(dsn: str, migrations: tuple[str, ...]) -> PostgresDatabase:
    return PostgresDatabase(read_address(dsn), migrations)


def test_an_older_database_is_brought_up_to_date_and_keeps_its_rows(dsn: str) -> None:
    older = database(dsn, MIGRATIONS[:1])
    with older.transaction() as connection:
        connection.execute("INSERT INTO prices VALUES ('p', '{}')")
    older.close()
    with open_store(dsn) as current:
        assert list(current.database.rows("SELECT price_id FROM prices")) == [("p",)]
        assert count(current, "jobs") == 0
        assert count(current, "stillhouse_migrations") == len(MIGRATIONS)


def test_a_migration_that_fails_leaves_the_older_schema(dsn: str) -> None:
    database(dsn, MIGRATIONS[:1]).close()
    broken = (
        MIGRATIONS[0],
        "CREATE TABLE extra (\n    a TEXT\n) STRICT;\nCREATE TABLE texts (a TEXT);\n",
    )
    with pytest.raises(StoreError, match=r"texts.* already exists"):
        database(dsn, broken)
    older = database(dsn, MIGRATIONS[:1])
    assert list(older.rows("SELECT count(*) FROM stillhouse_migrations")) == [(1,)]
    assert list(older.rows("SELECT to_regclass('extra')::text")) == [(None,)]
    older.close()


def test_a_database_of_a_newer_version_is_left_as_it_is(dsn: str) -> None:
    database(dsn, (*MIGRATIONS, "CREATE TABLE later (\n    a TEXT\n) STRICT;\n")).close()
    with pytest.raises(StoreError, match=r"newer version .* update stillhouse"):
        open_store(dsn)


def test_tables_of_another_program_are_left_as_they_are(dsn: str, new_schema: NewSchema) -> None:
    schema = read_address(dsn).schema
    with psycopg.connect(read_address(dsn).conninfo, autocommit=True) as other:
        other.execute(f'CREATE SCHEMA "{schema}"; CREATE TABLE "{schema}".tasks (title TEXT)')
        other.execute(f"INSERT INTO \"{schema}\".tasks VALUES ('dust')")
        with pytest.raises(StoreError, match=r"another program under a name of ours .*schema="):
            open_store(dsn)
        found = other.execute(f'SELECT title FROM "{schema}".tasks').fetchall()
        tables = other.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = %s", (schema,)
        ).fetchone()
    assert (found, tables) == ([("dust",)], (1,))


def test_a_search_path_names_the_schema_too(dsn: str) -> None:
    schema = read_address(dsn).schema
    plain = dsn.replace(f"schema={schema}", f"options=-csearch_path={schema}")
    with open_store(plain) as store:
        keep(store, [an_entry(1)])
    with open_store(dsn) as store:
        assert numbers(store.exchanges()) == [1]


def test_a_step_waits_for_another_writer_and_says_so(store: PostgresStore, dsn: str) -> None:
    with PostgresStore(also(dsn, "-clock_timeout=50")) as hasty:
        with store.database.transaction():
            sentence = refused(lambda: hasty.put_artefact(b"a"), "a second writer")
            assert "is being written by another process; wait" in sentence
        assert hasty.get_artefact(hasty.put_artefact(b"a")) == b"a"


def test_the_right_to_import_is_taken_again_with_a_new_connection(
    store: PostgresStore, dsn: str
) -> None:
    with PostgresStore(dsn) as other, store.importing():
        cut(dsn, own_number(store))
        keep(store, [an_entry(1)])
        refused(lambda: other.importing().__enter__(), "a second importer")
        cut(dsn, own_number(store))
        with other.importing():
            sentence = refused(lambda: keep(store, [an_entry(2)]), "an import without its right")
            assert "another process is importing" in sentence


def test_a_question_inside_a_step_sees_what_the_step_did(store: PostgresStore) -> None:
    with store.database.transaction() as connection:
        connection.execute("INSERT INTO prices VALUES ('p', '{}')")
        assert count(store, "prices") == 1
        refused(lambda: store.put_artefact(b"a"), "a step inside a step")
    assert count(store, "prices") == 1


def test_rows_may_come_from_a_question_while_they_are_written(store: PostgresStore) -> None:
    keep(store, [an_entry(n) for n in range(20)])
    with store.database.transaction() as connection:
        found = store.database.rows("SELECT id, answer FROM exchanges ORDER BY id")
        connection.executemany("INSERT INTO artefacts VALUES (?, ?)", _as_artefacts(found))
    assert count(store, "artefacts") == 20


def _as_artefacts(rows: Iterator[Any]) -> Iterator[tuple[str, bytes]]:
    return ((str(number), answer.encode()) for number, answer in rows)


def test_few_connections_are_made_and_none_is_left(dsn: str) -> None:
    name = read_address(dsn).schema[-20:]
    asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = ?"
    with PostgresStore(f"{dsn}&application_name={name}") as store:
        keep(store, [an_entry(n, at_us=n) for n in range(1000)])
        for _ in range(10):
            next(iter(store.exchanges()))
            list(store.task_rows("none"))
        ((made,),) = store.database.rows(asked, name)
        assert made <= 4


def test_texts_that_somebody_else_wrote_come_back_as_they_are(store: PostgresStore) -> None:
    texts = ["\x1a", "\x1a0", "a\x1a;", "\x1azz;", "\\x00", ""]
    with store.database.transaction() as connection:
        for number, text in enumerate(texts):
            connection.execute(
                "INSERT INTO policy_events (task, version, event, why, who, at_us) "
                f"VALUES ('t', {number}, 'e', convert_from(?, 'UTF8'), 'w', 0)",
                (text.encode(),),
            )
    assert [event.why for event in store.policy_events("t")] == texts


@pytest.mark.parametrize("text", ["a\0b", "\x1a0;", "half \ud83d of a pair", "\0" * 5000])
def test_texts_that_postgresql_does_not_hold_are_kept(store: PostgresStore, text: str) -> None:
    event = PolicyEvent(text, 1, text, text, text, 0)
    number = store.add_policy_event(event)
    assert list(store.policy_events(text)) == [event._replace(number=number)]


def test_a_driver_that_is_not_installed_is_said() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.modules['psycopg'] = None\n"
            "from stillhouse.store.opening import open_store\n"
            "try: open_store('postgresql://h/b')\n"
            "except Exception as error: print(type(error).__name__, error)",
        ],
        capture_output=True,
        check=True,
        text=True,
    )
    assert told.stdout.startswith("StoreError ")
    assert "pip install 'stillhouse[postgres]'" in told.stdout


def surveyed(store: PostgresStore, table: str) -> int:
    """How many rows the server's planner takes a table to have; none where it has never looked."""
    ((rows,),) = store.database.rows(
        "SELECT CAST(reltuples AS INTEGER) FROM pg_class WHERE oid = to_regclass(?)", table
    )
    return int(rows)


def test_what_was_imported_is_planned_by_its_real_size_at_once(store: PostgresStore) -> None:
    assert surveyed(store, "charges") <= 0
    with store.importing():
        keep(store, [an_entry(n) for n in range(300)])
        assert surveyed(store, "charges") <= 0
    assert [surveyed(store, table) for table in ("exchanges", "attempts", "charges")] == [300] * 3


def test_rows_of_tasks_are_planned_by_their_real_size_at_once(store: PostgresStore) -> None:
    keep(store, [an_entry(n) for n in range(300)])
    store.save_tasks([LABELS], [(f"{n:032x}", "intents", f"slot {n}") for n in range(200)])
    assert [surveyed(store, table) for table in ("charges", "task_rows")] == [300, 200]


def test_a_survey_that_another_one_is_in_the_way_of_does_no_harm(dsn: str) -> None:
    with PostgresStore(also(dsn, "-clock_timeout%3D50")) as store:
        keep(store, [an_entry(1)])
        with psycopg.connect(read_address(dsn).conninfo) as other:
            schema = read_address(dsn).schema
            other.execute(f'LOCK TABLE "{schema}".task_rows IN SHARE UPDATE EXCLUSIVE MODE')
            store.save_tasks([LABELS], [(f"{1:032x}", "intents", "slot")])
            assert surveyed(store, "task_rows") <= 0
        assert [row.text for row in store.task_rows("intents")] == ["slot"]
