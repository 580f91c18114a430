"""A plan is kept for as long as a session lives, however the log grows; so none may read a whole table."""

from collections.abc import Callable

import pytest

from tests.sql.session import Session, plant

# As often as Postgres plans for the values at hand; then it makes the plan that it keeps.
OFTEN = 8
READ = """
select coalesce(sum(seq_scan), 0)::int from pg_stat_xact_user_tables
where schemaname = 'queue' and relname in ('message', 'position', 'hold', 'settled', 'extension', 'dead')"""
LEASED = "from queue.lease('orders', 'kitchen', null, 2) l group by l.lease"
# The functions that plan so, with a call of the last one.
CALLS = {
    "queue.publish_batch": "select queue.publish('orders', '1')",
    "queue.ack": "select queue.ack('orders', 'kitchen', 1, 0)",
    "queue.lease_many": f"select count(*) {LEASED}",
    "queue.ack_leases": f"select queue.ack_lease('orders', 'kitchen', l.lease) {LEASED}",
    "queue.put queue.nack": f"select queue.nack('orders', 'kitchen', l.lease, p_delay_seconds => 0) {LEASED}",
    "queue.held queue.extend": f"select queue.extend('orders', 'kitchen', l.lease, 60) {LEASED}",
    "queue.next_due": "select queue.next_due('orders', 'kitchen')",
}
# Those that are called for others, and so often that they had better not either.
LOOKS = {"queue.acts": "select queue.acts('{orders}', '{kitchen}')"}


def whole_tables_read(planner: Session, other: Session, call: str) -> int:
    """Return how many tables a session reads whole in a call that it planned when they were small."""
    for some in CALLS.values():
        other.run("select queue.publish('orders', '1')", some)
    other.run("vacuum analyze")
    for _ in range(OFTEN):
        planner.run("select queue.publish('orders', '1')")
        planner.run(call)
    other.run(
        "select queue.publish_batch('orders', (select json_agg(n) from generate_series(1, 5000) n))"
    )
    planner.run("begin")
    planner.run(call)
    read: int = planner.value(READ)
    planner.run("rollback")
    return read


@pytest.mark.parametrize("functions", [*CALLS, *LOOKS])
@pytest.mark.parametrize("bug", [False, True], ids=["", "control"])
def test_a_plan_made_for_a_small_log_is_none_for_a_large_one_too(
    orders: Session, session: Callable[[], Session], functions: str, bug: bool
) -> None:
    orders.run("select queue.subscribe('orders', 'kitchen')")
    for function in functions.split() if bug else ():
        plant(orders, function, (" SET enable_seqscan TO 'off'\n", ""))
    assert (whole_tables_read(session(), session(), (CALLS | LOOKS)[functions]) > 0) == bug
