"""Topics: create, look at, list, delete."""

from itertools import product

from tests.sql.session import Session, refused

HOSTILE_NAMES = [
    None, "", ".", "..", " ", "a b", "a/b", "../a", "a\\b", "%00", "%2f", "%ff", "a%", "a\r\nb", "a\n",
    "\na", "a\tb", "é", "e\u0301", "ａ", "１２", "😀", "a'b", 'a"b', "'; drop table queue.topic; --",
    "a" * 201, "a" * 300,
]  # fmt: skip
GOOD_NAMES = ["a", "A", "0", "-", "_", "...", ".a", "a.", "a" * 200, "null", "orders-2.0_final"]

LOOKUPS = [
    "get_topic(%s)", "delete_topic(%s)", "publish(%s, '1')", "subscribe(%s)", "list_subscribers(%s)",
    "browse(%s)", "reset(%s, 0)", "get_subscriber(%s, 'a')", "unsubscribe(%s, 'a')", "fetch(%s, 'a')",
    "ack(%s, 'a', 0, 0)", "seek(%s, 'a', 0)",
]  # fmt: skip

COUNTS = """
select (select count(*) from queue.topic), (select count(*) from queue.subscriber),
       (select count(*) from queue.position), (select count(*) from queue.publication),
       (select count(*) from queue.message)
"""


def topic_row(sql: Session, topic: str) -> tuple[object, ...]:
    return sql.row(
        "select topic, description, floor, head, subscribers from queue.get_topic(%s)", topic
    )


def test_a_topic_is_made_empty(sql: Session) -> None:
    made = sql.row("select * from queue.create_topic('orders', 'every order placed')")
    assert made[:2] + made[3:6] == ("orders", "every order placed", 1, 0, 0)
    assert made == sql.row("select * from queue.get_topic('orders')")
    assert sql.value(
        "select created_at between now() - interval '1 min' and now() from queue.topics"
    )


def test_a_description_is_optional_and_may_be_any_text(sql: Session) -> None:
    sql.run("select queue.create_topic('a')")
    sql.rows("select queue.create_topic('b', %s)", "'; drop table queue.topic; -- \n 😀")
    assert topic_row(sql, "a") == ("a", None, 1, 0, 0)
    assert topic_row(sql, "b") == ("b", "'; drop table queue.topic; -- \n 😀", 1, 0, 0)


def test_a_topic_exists_once(orders: Session) -> None:
    with refused("QL003", "topic 'orders' exists already"):
        orders.run("select queue.create_topic('orders', 'another')")
    assert topic_row(orders, "orders") == ("orders", "every order placed", 1, 0, 0)
    orders.run("select queue.create_topic('Orders')")  # names are told apart by case
    assert orders.value("select count(*) from queue.topic") == 2


def test_a_hostile_name_is_refused_and_finds_nothing(orders: Session) -> None:
    for name in HOSTILE_NAMES:
        with refused("QL007", "cannot be the name of a topic"):
            orders.rows("select queue.create_topic(%s)", name)
    for name, call in product(HOSTILE_NAMES, LOOKUPS):
        with refused("QL001", "does not exist"):
            orders.rows(f"select queue.{call}", name)
    assert orders.row(COUNTS) == (1, 0, 0, 0, 0)


def test_a_good_name_works_everywhere(sql: Session) -> None:
    for name in GOOD_NAMES:
        sql.rows("select queue.create_topic(%s)", name)
        assert sql.value("select queue.publish(%s, '1')", name) == 1
        made = sql.value(
            "select (s.subscriber).subscriber from queue.subscribe(%s, %s) s", name, name
        )
        assert made == name
        assert topic_row(sql, name) == (name, None, 1, 1, 1)
        sql.rows("select queue.delete_topic(%s)", name)
    assert sql.row(COUNTS) == (0, 0, 0, 0, 0)


def test_topics_are_listed_in_byte_order_a_page_at_a_time(sql: Session) -> None:
    for name in ("b", "a", "B", "_", "10", "9"):
        sql.rows("select queue.create_topic(%s)", name)

    def page(*arguments: object) -> list[str]:
        marks = ", ".join(["%s"] * len(arguments))
        return [
            name
            for (name,) in sql.rows(f"select topic from queue.list_topics({marks})", *arguments)
        ]

    assert page() == ["10", "9", "B", "_", "a", "b"]
    assert page(None, 4) == ["10", "9", "B", "_"]
    assert page("_", 4) == ["a", "b"]
    assert page("Z", 1) == ["_"]  # the name after which to go on need not exist
    assert page("b", 4) == []
    assert page(None, 0) == []
    with refused("2201W", "LIMIT must not be negative"):
        page(None, -1)


def test_delete_leaves_nothing_behind(orders: Session) -> None:
    orders.run(
        "select queue.create_topic('other')",
        "select queue.publish('other', '1', p_producer => 'p', p_sequence => 1)",
        "select queue.subscribe('other', 'billing')",
        "select queue.publish_batch('orders', '[1,2]', p_producer => 'p', p_sequence => 1)",
        "select queue.subscribe('orders', 'billing'), queue.subscribe('orders', 'kitchen')",
        "select queue.seek('orders', 'billing', 0)",
    )
    assert orders.row(COUNTS) == (2, 3, 4, 2, 3)
    orders.run("select queue.delete_topic('orders')")
    assert orders.row(COUNTS) == (1, 1, 1, 1, 1)
    for statement in ("queue.get_topic('orders')", "queue.fetch('orders', 'billing')"):
        with refused("QL001", "topic 'orders' does not exist"):
            orders.run(f"select {statement}")


def test_a_topic_made_again_starts_anew(orders: Session) -> None:
    orders.run(
        "select queue.publish('orders', '1', p_producer => 'p', p_sequence => 1)",
        "select queue.subscribe('orders', 'billing')",
        "select queue.delete_topic('orders')",
        "select queue.create_topic('orders')",
    )
    assert topic_row(orders, "orders") == ("orders", None, 1, 0, 0)
    with refused("QL002", "topic 'orders' has no subscriber 'billing'"):
        orders.run("select queue.get_subscriber('orders', 'billing')")
    numbered = "select * from queue.publish_batch('orders', '[2]', null, null, 'p', 1)"
    assert orders.row(numbered) == (1, 1, False)  # the old topic's numbers went with it
    assert orders.rows("select \"offset\", payload::text from queue.browse('orders')") == [(1, "2")]


def test_delete_removes_a_large_topic_at_once_and_tidy_its_rest(orders: Session) -> None:
    orders.run(
        'insert into queue.message (topic_id, "offset", published_at, payload) '
        "select topic_id, n, now(), '0' from queue.topic, generate_series(1, 100010) n",
        "select queue.delete_topic('orders')",
        "select queue.create_topic('orders')",
    )
    assert topic_row(orders, "orders") == ("orders", None, 1, 0, 0)
    assert orders.rows("select * from queue.browse('orders')") == []
    assert orders.row(COUNTS) == (1, 0, 0, 0, 10)
    assert [orders.value("select queue.tidy(7)") for _ in range(3)] == [7, 3, 0]
    assert orders.row(COUNTS) == (1, 0, 0, 0, 0)


def test_heads_tells_only_of_topics_that_exist(orders: Session) -> None:
    orders.run("select queue.create_topic('other')", "select queue.publish('orders', '1')")
    heads = "select * from queue.heads(%s) order by topic"
    assert orders.rows(heads, ["orders", "missing", "other"]) == [("orders", 1), ("other", 0)]
    assert orders.rows(heads + " limit 9", ["missing"]) == []
    assert orders.rows("select * from queue.heads('{}')") == []
    assert orders.rows("select * from queue.heads(null)") == []
