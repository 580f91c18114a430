"""What an X-ray shows of a statement: what ran inside, what went to the log, what became of pages."""

from collections.abc import Callable
from contextlib import closing

import psycopg2
import pytest
from psycopg2.extensions import connection, make_dsn

from qlib import lab
from qlib.lab.xray import Xray, log, rights
from server.engines.postgres.embedded import EmbeddedPostgres
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("queue_dsn")

PUBLISH = "select queue.publish('orders', %s)"
MANY = """
create function public.many() returns void language plpgsql as $$
begin
    for n in 1..200 loop
        perform count(*) from queue.topic where topic_id = n;
    end loop;
end $$
"""
SESSIONS = "select pid from pg_stat_activity where application_name = 'X-ray'"
PLANTED = ["Heap INSERT", "Btree INSERT_LEAF", "Transaction COMMIT"]


@pytest.fixture
def orders(queue_dsn: str) -> None:
    lab.sql("select queue.create_topic('orders')")
    lab.sql("select queue.subscribe('orders', 'kitchen', p_start => 'earliest')")
    for n in range(3):
        lab.sql(PUBLISH, {"n": n})


def kinds(shot: Xray) -> list[str]:
    """What the transaction itself has written."""
    return shot.records[shot.records["xid"].notna()]["record"].tolist()


@pytest.mark.usefixtures("orders")
def test_a_publish_and_what_runs_inside() -> None:
    shot = lab.xray(PUBLISH, {"n": 4})
    found = shot.statements
    assert shot.rows["publish"].tolist() == [4]
    assert [text.split()[0].lower() for text in found["statement"]] == [
        *("select", "select", "select", "insert", "select")
    ]
    assert found["plan"].tolist()[0] == "Index Scan on topic_name_key"
    assert "Limit ← Index Scan Backward on message_pkey" in found["plan"].tolist()[2]
    assert found["rows"].tolist() == [1] * 5
    # the last line has all of it, and what a new session has tidied on its way in the catalogues
    assert found["wal_records"].tolist()[:4] == [0, 0, 0, 2] and found["wal_records"].iloc[4] >= 2
    assert all(found["buffers"].iloc[[0, 2, 3]] > 0) and found["wal_bytes"].iloc[3] > 0


@pytest.mark.usefixtures("orders")
def test_a_publish_leaves_three_records_and_an_ack_four() -> None:
    assert kinds(lab.xray(PUBLISH, {"n": 4})) == PLANTED
    fetched = lab.xray("select * from queue.fetch('orders', 'kitchen')")
    assert len(fetched.rows) == 4 and kinds(fetched) == []
    epoch = int(fetched.rows["epoch"][0])
    acked = lab.xray("select * from queue.ack('orders', 'kitchen', 2, %s)", epoch)
    assert acked.rows["position"].tolist() == [2]
    assert kinds(acked) == [*PLANTED[:2], "Heap HEAP_CONFIRM", PLANTED[2]]
    assert acked.records["relation"].dropna().iloc[-1] == 'queue."position"'


@pytest.mark.usefixtures("orders")
def test_what_is_inlined_is_said() -> None:
    shot = lab.xray(PUBLISH, {"n": 4})
    assert shot.statements["inlined"].tolist()[-1] == "publish"
    assert "publish_batch" in str(shot.plans[-1]["Plan"]["Output"])
    assert "queue.publish is not in the plan" in shot._repr_html_()
    batch = lab.xray("select * from queue.publish_batch('orders', '[5]')")
    assert batch.statements["inlined"].tolist()[-1] == ""
    fetched = lab.xray("select * from queue.fetch('orders', 'kitchen')")
    assert [it for it in fetched.statements["inlined"] if it] == ["slice"]


def test_two_hundred_statements_inside_one_function(queue_dsn: str) -> None:
    lab.sql(MANY)
    found = lab.xray("select public.many()").statements["statement"].tolist()
    assert len([text for text in found if "queue.topic" in text]) == 200
    # control: so many would be lost in the list that psycopg2 keeps
    with closing(psycopg2.connect(queue_dsn)) as session, session.cursor() as rows:
        rows.execute("do $$ begin for n in 1..200 loop raise notice 'x'; end loop; end $$")
        assert len(session.notices) == 50


def test_what_else_is_told_is_no_plan() -> None:
    shot = lab.xray("do $$ begin raise info 'duration: 1 ms'; perform 1 from queue.topic; end $$")
    assert shot.statements["statement"].tolist() == ["SELECT 1 from queue.topic"]


def test_plans_hold_payloads_and_stay_out_of_the_log(cluster: EmbeddedPostgres) -> None:
    lab.sql("select queue.create_topic('orders')")
    shot = lab.xray(PUBLISH, {"n": "confidential"})
    assert "confidential" in str(shot.plans)
    lab.sql("do $$ begin raise log 'a sign of life'; end $$")
    written = (cluster._data / "postgres.log").read_text()
    assert "a sign of life" in written and "confidential" not in written


def test_an_update_leaves_a_dead_version() -> None:
    lab.sql("create table public.counter as select 1 as id, 0 as n")
    shot = lab.xray("update public.counter set n = n + 1")
    seen = shot.pages[["relation", "page", "slot", "before", "after", "next"]].values.tolist()
    assert seen == [
        ["public.counter", 0, 1, "live", "dead", "(0,2)"],
        ["public.counter", 0, 2, None, "live", None],
    ]
    assert shot.statements["plan"].tolist() == ["Update on counter ← Seq Scan on counter"]
    assert shot.statements["rows"].tolist() == [1]


@pytest.mark.usefixtures("orders")
def test_an_insert_leaves_all_the_others_as_they_are() -> None:
    seen = lab.xray(PUBLISH, {"n": 4}).pages
    assert seen["relation"].unique().tolist() == ["queue.message"]
    assert seen[["before", "after"]].values.tolist() == [["live", "live"]] * 3 + [[None, "live"]]


def test_a_page_out_of_the_picture_is_not_guessed() -> None:
    lab.sql(
        "create table public.wide as select n, repeat('x', 500) t from generate_series(1, 900) n"
    )
    size = int(lab.sql("select pg_relation_size('public.wide') / 8192 as n")["n"][0])
    place = lab.sql("select ctid::text from public.wide where n = 900")["ctid"][0]
    assert size > 40
    shot = lab.xray("delete from public.wide where n = 1")
    assert shot.records["page"].tolist()[0] == 0 and shot.pages.empty
    shot = lab.xray("delete from public.wide where n = 900")
    assert shot.pages["page"].unique().tolist() == [int(place[1:].split(",")[0])]
    assert shot.pages["after"].tolist().count("dead") == 1


def test_a_subtransaction_is_part_of_its_transaction() -> None:
    lab.sql("create table public.t (n int)")
    shot = lab.xray("do $$ begin insert into public.t values (1); begin insert into public.t"
                    " values (2); exception when division_by_zero then null; end; end $$")  # fmt: skip
    assert [kind.split("+")[0] for kind in kinds(shot)] == [
        *("Heap INSERT", "Heap INSERT", "Transaction COMMIT")
    ]
    assert shot.records["xid"].nunique() == 2


def test_what_it_clears_away_in_passing_is_nobody_s_work() -> None:
    lab.sql("create table public.noted (n int)")
    lab.sql("create table public.crowded with (autovacuum_enabled = off) as "
            "select n, repeat('x', 60) as words from generate_series(1, 40) n")  # fmt: skip
    lab.sql("update public.crowded set n = n + 1")
    lab.sql("create function public.pass_by() returns bigint language plpgsql as $$ begin "
            "insert into public.noted values (1); return (select count(*) from public.crowded); end $$")  # fmt: skip
    shot = lab.xray("select public.pass_by()")
    assert shot.records["record"].str.contains("PRUNE").any()
    assert kinds(shot) == ["Heap INSERT+INIT", "Transaction COMMIT"]  # of a new page


def test_the_records_of_another_are_left_out(connect: Callable[[], connection]) -> None:
    lab.sql("create table public.t (n int)")
    own, other = connect(), connect()
    rights.check(own)
    begin = log.position(own, "pg_current_wal_insert_lsn()")
    for session in (own, other):
        with session.cursor() as rows:
            rows.execute("insert into public.t values (1)")
    number = log.own_transaction(own)
    own.commit()
    other.commit()
    found = log.records(own, begin)
    kept = log.of_transaction(found, number)
    assert set(kept["xid"].dropna()) == {number} and len(kept["xid"].dropna()) == 2
    assert len(found["xid"].dropna()) == 4


def test_it_commits_and_leaves_no_session() -> None:
    lab.sql("create table public.t (n int)")
    lab.xray("insert into public.t values (%s)", 7)
    assert lab.sql("select n from public.t")["n"].tolist() == [7]
    with pytest.raises(psycopg2.Error):
        lab.xray("insert into public.t values (8), (1 / 0)")
    assert lab.sql("select n from public.t")["n"].tolist() == [7]
    until(lambda: lab.sql(SESSIONS).empty)


def test_extensions_that_are_there_are_used_and_stay() -> None:
    lab.sql("create schema tools")
    lab.sql("create extension pageinspect schema tools")
    lab.sql("create table public.counter as select 1 as id, 0 as n")
    assert len(lab.xray("update public.counter set n = 1").pages) == 2
    found = lab.sql("select extname from pg_extension order by 1")["extname"].tolist()
    assert found == ["pageinspect", "pg_walinspect", "plpgsql"]


def test_without_a_superuser_it_says_so(
    queue_dsn: str, cluster: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.sql("drop role if exists somebody")
    lab.sql("create role somebody login")
    monkeypatch.setenv("QUEUE_DSN", make_dsn(queue_dsn, user="somebody"))
    with pytest.raises(PermissionError, match="needs a superuser.*'somebody'.*private queue"):
        lab.xray("select 1")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lab.xray("select 1")
    monkeypatch.setattr(rights, "_NEEDED", ("pageinspect", "pg_nowhere"))
    with pytest.raises(LookupError, match="the extension pg_nowhere.*contrib.*private queue"):
        lab.xray("select 1")


def test_it_is_shown_in_short_and_in_whole() -> None:
    lab.sql("create table public.t (n text)")
    shot = lab.xray("insert into public.t values ('<b>')")
    assert repr(shot).startswith("<X-ray: 1 statement, ") and len(repr(shot)) < 80
    shown = shot._repr_html_()
    assert "&lt;b&gt;" in shown and "<b>'" not in shown
    assert "Heap INSERT" in shown and "Insert on t" in shown
