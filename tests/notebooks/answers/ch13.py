"""A reader who cuts the pages himself."""

RIGHT = [
    """def orders(pages, position):
    cut = [(first + n, order) for first, page in pages for n, order in enumerate(page)]
    return [(offset, order) for offset, order in cut if offset > position]""",
    """def orders(pages, position):
    found = []
    for first, payloads in pages:
        offset = first
        for payload in payloads:
            if offset >= position + 1:
                found.append([offset, payload])
            offset += 1
    return found""",
    """def orders(pages, position):
    for first, payloads in pages:
        skipped = max(position + 1 - first, 0)
        yield from enumerate(payloads[skipped:], first + skipped)""",
    """from itertools import chain
def orders(pages, position):
    cut = chain.from_iterable(enumerate(payloads, first) for first, payloads in pages)
    return list(filter(lambda order: order[0] > position, cut))""",
]


def cutting(start: str = "first", where: str = "offset > position", pages: str = "pages") -> str:
    return f"""def orders(pages, position):
    return [(offset, order) for first, page in {pages}
            for offset, order in enumerate(page, {start}) if {where}]"""


WRONG = [
    cutting(where="True"),
    cutting(where="offset >= position"),
    cutting(where="offset > position + 1"),
    cutting(where="first > position"),
    cutting(where="first >= position"),
    cutting(start="1"),
    cutting(start="0"),
    cutting(start="position + 1"),
    cutting(start="first + 1"),
    cutting(pages="pages[:1]"),
    cutting(pages="pages[1:]"),
    cutting(pages="reversed(pages)"),
    "def orders(pages, position): return pages",
    "def orders(pages, position): return []",
]
