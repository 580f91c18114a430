"""Settings: flags over environment over defaults, and a clear word about those that make no sense."""

from pathlib import Path

import pytest

from server.settings import Settings, parse

VARIABLES = {
    "--host": ("QUEUE_HOST", "127.0.0.1"),
    "--port": ("QUEUE_PORT", "8008"),
    "--database-url": ("DATABASE_URL", "none"),
    "--data": ("QUEUE_DATA", ".queue"),
    "--allow-host": ("QUEUE_ALLOW_HOST", "none"),
    "--long-polls": ("QUEUE_LONG_POLLS", "10000"),
    "--connections": ("QUEUE_CONNECTIONS", "16"),
    "--log-level": ("QUEUE_LOG_LEVEL", "info"),
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the caller's own settings away."""
    for name in ("QUEUE_TOKEN", "QUEUE_TOKEN_FILE", *(name for name, _ in VARIABLES.values())):
        monkeypatch.delenv(name, raising=False)


def test_the_defaults() -> None:
    assert parse([]) == Settings(
        host="127.0.0.1",
        port=8008,
        database_url=None,
        data=Path(".queue").absolute(),
        token=None,
        hosts=("127.0.0.1",),
        long_polls=10_000,
        connections=16,
        log_level="info",
    )


def test_help_shows_every_flag_with_its_variable_and_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for flag, (variable, default) in VARIABLES.items():
        described = text.split(f" {flag} {flag.upper()[2:]} ")[1]
        assert f"[${variable}; default: {default}]" in described
    assert text.count("[$") == len(VARIABLES)
    assert "QUEUE_TOKEN_FILE" in text


def test_flags_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [
        "localhost",
        "81",
        "dbname=x",
        "/tmp/d",
        "A.test, b.test,",
        "200",
        "3",
        "Error",
    ]
    for (variable, _), value in zip(VARIABLES.values(), values, strict=True):
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("QUEUE_TOKEN", "secret")
    expected = Settings(
        host="127.0.0.1",
        port=81,
        database_url="dbname=x",
        data=Path("/tmp/d"),
        token="secret",
        hosts=("127.0.0.1", "a.test", "b.test"),
        long_polls=200,
        connections=3,
        log_level="error",
    )
    assert parse([]) == expected
    for variable, _ in VARIABLES.values():
        monkeypatch.setenv(variable, "nonsense")
    flags = [text for pair in zip(VARIABLES, values, strict=True) for text in pair]
    assert parse(flags) == expected


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("QUEUE_PORT", "DATABASE_URL", "QUEUE_TOKEN", "QUEUE_TOKEN_FILE"):
        monkeypatch.setenv(variable, "")
    settings = parse([])
    assert (settings.port, settings.database_url, settings.token) == (8008, None, None)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--port", "0"], "--port is 1 to 65535"),
        (["--port", "65536"], "--port is 1 to 65535"),
        (["--port", "http"], "--port"),
        (["--connections", "0"], "--connections"),
        (["--connections", "many"], "--connections"),
        (["--threads", "1100"], "unrecognized"),
        (["--long-polls", "-1"], "--long-polls"),
        (["--database-url", "s3cret"], "--database-url"),
        (["--host", "0.0.0.0"], "needs a token"),
        (["--host", "::"], "needs a token"),
        (["--host", "fd00:1::5"], "needs a token"),
        (["--host", "::ffff:10.0.0.1"], "needs a token"),
        (["--host", "::ffff:0.0.0.0"], "needs a token"),
        (["--host", "queue.test"], "is not an IP address"),
        (["--host", "fe80::1"], "--host ::, and its name in --allow-host"),
        (["--host", "fe80::1%lo"], "--host ::, and its name in --allow-host"),
        (["--allow-host", "a.test,b.test:80"], "'b.test:80' is not a name"),
        (["--allow-host", "[fd00::5]:80"], "without a port"),
        (["--token", "s3cret"], "unrecognized"),
        (["--log-level", "loud"], "'loud' is none of debug, info, warning, error"),
        (["--colour"], "unrecognized"),
    ],
)
def test_nonsense_is_refused(
    flags: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(flags)
    assert ended.value.code == 2
    assert word in capsys.readouterr().err


def test_nonsense_in_the_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable, flag in (("QUEUE_PORT", "--port"), ("DATABASE_URL", "--database-url")):
        monkeypatch.setenv(variable, "s3cret")
        with pytest.raises(SystemExit):
            parse([])
        assert flag in capsys.readouterr().err
        monkeypatch.delenv(variable)


def test_a_token_comes_from_one_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "token"
    monkeypatch.setenv("QUEUE_TOKEN_FILE", str(path))
    for content, word in (
        (None, "cannot be read"),
        (" \n", "is empty"),
        (b"\xff", "cannot be read"),
    ):
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(SystemExit):
            parse([])
        assert word in capsys.readouterr().err
    path.write_text("secret\n")
    assert parse([]).token == "secret"
    assert parse(["--host", "0.0.0.0"]).host == "0.0.0.0"
    monkeypatch.setenv("QUEUE_TOKEN", "other")
    with pytest.raises(SystemExit):
        parse([])
    assert "which one?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "host", "name"),
    [
        ("127.0.0.2", "127.0.0.2", "127.0.0.2"),
        ("::1", "::1", "[::1]"),
        ("0:0:0:0:0:0:0:1", "::1", "[::1]"),
        ("::ffff:127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("::FFFF:7f00:1", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_a_loopback_address_needs_no_token(given: str, host: str, name: str) -> None:
    settings = parse(["--host", given])
    assert (settings.host, settings.hosts) == (host, (name,))


def test_names_are_kept_in_the_form_in_which_they_are_compared() -> None:
    given = "A.test, FD00:1:0::5,[fd00:2:0::5],::ffff:10.0.0.1,fe80::1%eth0,10.0.0.2"
    _, *names = parse(["--allow-host", given]).hosts
    assert names == [
        "a.test",
        "[fd00:1::5]",
        "[fd00:2::5]",
        "10.0.0.1",
        "[fe80::1]",
        "10.0.0.2",
    ]


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE_TOKEN", "s3cret")
    monkeypatch.setenv("DATABASE_URL", "password=s3cret")
    settings = parse([])
    assert settings.token == "s3cret"
    assert "s3cret" not in repr(settings)
