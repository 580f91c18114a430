"""Raw SQL in, a table out."""

from collections.abc import Callable
from decimal import Decimal

import psycopg2
import pytest
from psycopg2.extensions import connection

from qlib.lab import sql
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("queue_dsn")


def test_rows_become_a_table() -> None:
    found = sql("select 1 as a, 'x' as b union all select 2, 'y' order by 1")
    assert list(found.columns) == ["a", "b"]
    assert found["a"].tolist() == [1, 2] and found["b"].tolist() == ["x", "y"]


def test_a_null_leaves_integers_integers() -> None:
    great = 2**60 + 1
    found = sql("select %s::bigint as a, 1::int as b union all select null, null", great)
    assert found["a"].dropna().tolist() == [great]
    assert "." not in repr(found)


GREAT = 2**60 + 1


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (f"('{GREAT}'::json), (null)", [GREAT, None]),
        (f"('{GREAT}'::jsonb), ('null')", [GREAT, None]),
        (f"('{GREAT}'::json), ('0.5')", [GREAT, 0.5]),
        (f"('{GREAT}'::json), ('\"x\"')", [GREAT, "x"]),
        (f"('{2**64 + 1}'::json), ('-1')", [2**64 + 1, -1]),
        (f"('{GREAT}'::json), ('1')", [GREAT, 1]),
        (f"('[{GREAT}, null]'::json), (null)", [[GREAT, None], None]),
        (f"('{{\"a\": {GREAT}}}'::json), (null)", [{"a": GREAT}, None]),
        (f"(array[{GREAT}, null]), (null)", [[GREAT, None], None]),
        (f"({GREAT}.5), (null)", [Decimal(f"{GREAT}.5"), None]),
        ("(4294967295::oid), (null)", [4294967295, None]),
    ],
)
def test_a_large_integer_is_exact_whatever_is_beside_it(values: str, found: list[object]) -> None:
    column = sql(f"select * from (values {values}) as t (v)")["v"]
    assert [None if one is None else one for one in column] == found
    assert [type(one) for one in column] == [type(one) for one in found]


def test_a_whole_column_with_nulls_of_every_type_of_integer() -> None:
    for kind, most in (("smallint", 2**15 - 1), ("int", 2**31 - 1), ("bigint", 2**63 - 1)):
        column = sql(f"select * from (values ({most}::{kind}), (null)) as t (v)")["v"]
        assert column.iloc[0] == most and column.isna().tolist() == [False, True]
    sql("create domain public.number as bigint")
    column = sql(f"select * from (values ({GREAT}::public.number), (null)) as t (v)")["v"]
    assert column.iloc[0] == GREAT


def test_the_other_types_are_what_pandas_makes_of_them() -> None:
    found = sql("select 0.5::float8 as a, 'x' as b, now() as c, '7'::json as d, true as e")
    assert [column.kind for column in found.dtypes.tolist()][:1] == ["f"]
    assert found["c"].dt.tz is not None and found["d"].dtype == "int64"
    assert found["e"].dtype == bool


def test_the_null_among_texts_is_none_whatever_is_beside_it() -> None:
    for more in ("", ", 1 as b", ", null::json as b"):
        assert sql(f"select unnest(array['x', null]) as a{more}")["a"].tolist() == ["x", None]


def test_a_long_table_is_shown_in_part() -> None:
    found = sql("select n from generate_series(1, 5000) n")
    assert len(repr(found).splitlines()) < 100 and found._repr_html_().count("<tr") < 100
    assert len(found) == 5000 and "5000" in repr(found)
    short = sql("select n from generate_series(1, 50) n")
    assert len(repr(short).splitlines()) == 51


def test_a_table_is_shown_without_its_index() -> None:
    found = sql("select 7 as a, '<b>' as b")
    assert repr(found).split() == ["a", "b", "7", "<b>"]
    assert found._repr_html_().count("<td>") == 2
    assert "&lt;b&gt;" in found._repr_html_()


def test_values_are_sent_as_what_they_are() -> None:
    found = sql("select %s::json as a, %s::int[] as b, %s as c", {"x": [1]}, [1, 2], "it's")
    assert found.iloc[0].tolist() == [{"x": [1]}, [1, 2], "it's"]


def test_without_values_a_percent_sign_is_one() -> None:
    assert sql("select 7 % 4 as a")["a"].tolist() == [3]


def test_a_statement_is_committed(connect: Callable[[], connection]) -> None:
    sql("select queue.create_topic('orders')")
    assert sql("select queue.publish('orders', %s)", {"id": 1})["publish"].tolist() == [1]
    with connect().cursor() as rows:
        rows.execute("select payload from queue.messages")
        assert rows.fetchall() == [({"id": 1},)]


def test_a_statement_without_rows_returns_an_empty_table() -> None:
    assert sql("create table public.x (a int)").empty
    assert sql("insert into public.x values (1)").empty
    assert sql("select a from public.x")["a"].tolist() == [1]


def test_a_failed_statement_changes_nothing() -> None:
    with pytest.raises(psycopg2.Error, match="does not exist"):
        sql("create table public.y (a int); select queue.publish('nowhere', '1')")
    assert sql("select to_regclass('public.y') as y")["y"].isna().all()


def test_no_connection_is_left() -> None:
    others = "select count(*) as n from pg_stat_activity where datname = current_database()"
    with pytest.raises(psycopg2.Error):
        sql("nonsense")
    until(lambda: sql(f"{others} and pid <> pg_backend_pid()")["n"].tolist() == [0])


def test_without_a_database_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUEUE_DSN")
    with pytest.raises(LookupError, match="QUEUE_DSN"):
        sql("select 1")
