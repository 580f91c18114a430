"""Where a lock goes in the sequence's function, and which one."""

RIGHT = [
    r"""line = "    perform pg_advisory_xact_lock(42, v_topic_id);\n"
mended = broken.replace("begin\n", "begin\n" + line, 1)""",
    r'''mended = broken.replace("    with published", """
    perform pg_advisory_xact_lock(42, v_topic_id);
    with published""")''',
    r"""head, tail = broken.split("\nbegin\n")
mended = head + "\nbegin\nperform pg_advisory_xact_lock(42, v_topic_id);\n" + tail""",
    r"""mended = broken.replace("begin\n", "begin\nlock table queue.message in exclusive mode;\n")""",
]


def with_line(line: str, before: str = "    with published") -> str:
    return f"mended = broken.replace({before!r}, {line + '; ' + before!r})"


WRONG = [
    "mended = broken",
    with_line("perform pg_advisory_xact_lock(42, v_topic_id)", "end\n$function"),
    with_line(
        "perform nextval('queue.next_offset'); perform pg_advisory_xact_lock(42, v_topic_id)"
    ),
    with_line("perform pg_advisory_xact_lock_shared(42, v_topic_id)"),
    with_line("perform pg_try_advisory_xact_lock(42, v_topic_id)"),
    with_line("perform pg_advisory_xact_lock(42, pg_backend_pid())"),
    with_line(
        "perform pg_advisory_lock(42, v_topic_id); perform pg_advisory_unlock(42, v_topic_id)"
    ),
    with_line("perform from queue.topic t where t.topic_id = v_topic_id"),
]
