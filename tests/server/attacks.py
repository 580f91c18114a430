"""Requests that somebody hostile would send, and what is right to answer."""

from collections.abc import Callable

from tests.server.raw import JSON, request

CHUNKED = b"Transfer-Encoding: chunked\r\n"
GOOD = b'{"payloads": [1]}'

# what is sent to publish -> the statuses that are right
BODIES: dict[str, tuple[bytes, set[int]]] = {
    "empty": (b"", {400}),
    "malformed": (b'{"payloads": [1}', {400}),
    "truncated": (b'{"payloads": [1', {400}),
    "more after it": (GOOD + b"x", {400}),
    "twice": (GOOD + GOOD, {400}),
    "null": (b"null", {422}),
    "list": (b"[]", {422}),
    "text": (b'"payloads"', {422}),
    "NaN": (b'{"payloads": [NaN]}', {400}),
    "Infinity": (b'{"payloads": [-Infinity]}', {400}),
    "1e400": (b'{"payloads": [1e400]}', {422}),
    "5,000 digits": (b'{"payloads": [' + b"1" * 5000 + b"]}", {422}),
    "5,000 digits and a name twice": (b'{"payloads": [{"payloads":' + b"1" * 5000 + b"}]}", {422}),
    "a name twice": (b'{"payloads": [1], "payloads": [2]}', {422}),
    "a name twice, with the same": (b'{"payloads": [1],"payloads": [1]}', {422}),
    "a name twice, the first inside": (
        b'{"headers":[{"payloads":[1]}],"payloads":[1],"payloads":[1]}',
        {422},
    ),
    "another name twice": (b'{"payloads": [1], "keys": ["a"], "keys": ["b"]}', {422}),
    "another name twice, once after": (b'{"keys":["a"],"payloads":[1],"keys":["b"]}', {422}),
    "a name twice, escaped": (b'{"payloads": [1], "p\\u0061yloads": [2]}', {422}),
    "a name twice, deep": (
        b'{"payloads": [1], "payloads":' + b"[" * 990 + b"]" * 990 + b"}",
        {422},
    ),
    "unknown name": (b'{"payloads": [1], "x": 1}', {422}),
    "UTF-16": ('{"payloads": [1]}'.encode("utf-16"), {400}),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, {400}),
    "bad UTF-8": (b'{"payloads": ["\xff"]}', {400}),
    "bad UTF-8 in a key": (b'{"payloads": [1], "keys": ["\xc3"]}', {400}),
    "UTF-8 surrogate": (b'{"payloads": ["\xed\xa0\x80"]}', {400}),
    "overlong UTF-8": (b'{"payloads": ["\xc0\x80"]}', {400}),
    "100,000 deep": (b'{"payloads": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {422}),
    "100,000 open": (b'{"payloads": ' + b"[" * 100_000, {400, 422}),
    "100,000 deep, unknown name": (b'{"x": ' + b'{"x":' * 100_000, {400, 422}),
    "half a surrogate pair": (b'{"payloads": ["\\ud800"]}', {400, 422}),
    "surrogates the wrong way round": (b'{"payloads": ["\\udc00\\ud800"]}', {400, 422}),
    "half a pair in a name": (b'{"payloads": [{"\\ud800": 1}]}', {400, 422}),
    "NUL": (b'{"payloads": ["\\u0000"]}', {422}),
    "NUL in a name": (b'{"payloads": [{"\\u0000": 1}]}', {422}),
    "NUL in the headers": (b'{"payloads": [1], "headers": [{"h": "\\u0000"}]}', {422}),
    "NUL in a key": (b'{"payloads": [1], "keys": ["\\u0000"]}', {422}),
    "NUL in the producer": (b'{"payloads":[1],"producer":"\\u0000","sequence":1}', {422}),
    "bare control character": (b'{"payloads": ["\x01"]}', {400}),
    "bare NUL": (b'{"payloads": ["\x00"]}', {400}),
    "one of three is bad": (b'{"payloads": [1, 2, "\\u0000"]}', {422}),
}

# whole requests -> the statuses that are right; 0: the connection is closed without an answer
REQUESTS: dict[str, tuple[Callable[[bytes], bytes], set[int]]] = {
    "chunked": (
        lambda path: request(
            "POST", path, b"11\r\n" + GOOD + b"\r\n0\r\n\r\n", JSON + CHUNKED, length=False
        ),
        {411},
    ),
    "chunked and far too long": (
        lambda path: request(
            "POST",
            path,
            (b"100000\r\n" + b" " * 0x100000 + b"\r\n") * 17,
            JSON + CHUNKED,
            length=False,
        ),
        {411},
    ),
    "chunked and lengthy": (
        lambda path: request("POST", path, b"11\r\n" + GOOD + b"\r\n0\r\n\r\n", JSON + CHUNKED),
        {400, 411},
    ),
    "smuggled": (
        lambda path: request(
            "POST", path, b"0\r\n\r\n" + request("POST", path, GOOD), JSON + CHUNKED
        ),
        {400, 411},
    ),
    "two lengths": (
        lambda path: request("POST", path, GOOD, JSON + b"Content-Length: 5\r\n"),
        {400},
    ),
    **{
        f"length {length!r}": (
            lambda path, length=length: request(  # type: ignore[misc]
                "POST", path, GOOD, JSON + b"Content-Length: " + length + b"\r\n", length=False
            ),
            statuses,
        )
        for length, statuses in {
            b"-17": {400},
            b"+17": {400},
            b"0x11": {400},
            b"1_7": {400},
            b"17.0": {400},
            b"9" * 30: {400, 413},
            b"17179869184": {413},
            b"16777217": {413},
            b"": {400, 411},
            b"16": {400},  # one byte short
            b"0": {400},
        }.items()
    },
    "no length": (lambda path: request("POST", path, b"", length=False), {411}),
    "other type": (
        lambda path: request("POST", path, GOOD, b"Content-Type: text/plain\r\n"),
        {415},
    ),
    "form": (
        lambda path: request(
            "POST", path, GOOD, b"Content-Type: application/x-www-form-urlencoded\r\n"
        ),
        {415},
    ),
    "no type": (lambda path: request("POST", path, GOOD, b""), {415}),
    "strange type": (
        lambda path: request("POST", path, GOOD, b"Content-Type: application/json\xff\r\n"),
        {415},
    ),
    "compressed": (
        lambda path: request(
            "POST", path, b"\x1f\x8b\x08\x00", JSON + b"Content-Encoding: gzip\r\n"
        ),
        {400, 415},
    ),
    "header folding": (lambda path: request("POST", path, GOOD, JSON + b" folded: 1\r\n"), {400}),
    "NUL in a header": (lambda path: request("POST", path, GOOD, JSON + b"X: \x00\r\n"), {400}),
    "a header of 2 MB": (
        lambda path: request("POST", path, GOOD, JSON + b"X: " + b"x" * 2_000_000 + b"\r\n"),
        {0, 400, 431},
    ),
    "500 headers": (lambda path: request("POST", path, GOOD, JSON + b"X: x\r\n" * 500), {400, 431}),
    "no HTTP": (lambda path: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", {0, 400}),
    "no version": (lambda path: b"POST " + path + b"\r\n\r\n", {0, 400}),
    "HTTP/9": (
        lambda path: b"POST " + path + b" HTTP/9.9\r\nHost: localhost\r\n\r\n",
        {0, 400, 505},
    ),
    "a long path": (lambda path: request("GET", b"/" + b"x" * 100_000), {0, 404, 414, 431}),
    "space in the path": (lambda path: request("GET", b"/topics/a b"), {400}),
    "a byte in the path": (lambda path: request("GET", b"/topics/\xff"), {400}),
}

# ways to write a name in a path that must not lead anywhere else
NAMES = [b"%00", b"a%0d%0aX:%201", b"%ff", b"%c0%ae", b"%F0%9F%98%80", b"%C3%A9", b"e%CC%81"]
NAMES += [b"..", b".", b"%2e%2e", b"%2E", b"a" * 300, b"'%3B%20drop%20table%20queue.topic--"]
NAMES += [b"%25s", b"%28s%29", b"{}", b"$1", b"%5C", b"a%20b", b"a+b", b"*", b"a;b"]
ELSEWHERE = [b"..%2f..%2fhealth", b"a%2fb", b"../health", b"", b"/", b"a/", b"a//messages"]

NUMBERS = [b"9223372036854775808", b"-9223372036854775809", b"-1", b"1.0", b"1e0", b"true", b'"1"']
NUMBERS += [b'"\xef\xbc\x91\xef\xbc\x92"', b'"1_0"', b"1" + b"0" * 400, b"[1]", b"null", b"{}"]
