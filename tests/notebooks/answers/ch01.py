"""How a letterbox may know the letters that have come before."""

RIGHT = [
    """def accept(offset):
    if offset > max(box, default=0):
        box.append(offset)""",
    """def accept(offset):
    if offset not in box:
        box.append(offset)""",
    """def accept(offset):
    if not box or box[-1] < offset: box.append(offset)""",
    """accept = lambda offset: box.append(offset) if offset not in box else None""",
    """seen = set()
def accept(offset):
    if offset not in seen:
        seen.add(offset)
        box.append(offset)""",
    """def accept(offset):
    global box
    box = sorted({*box, offset})""",
]

WRONG = [
    """def accept(offset):
    box.append(offset)""",
    """def accept(offset):
    if offset > max(box, default=1):
        box.append(offset)""",
    """def accept(offset):
    if offset < max(box, default=99):
        box.append(offset)""",
    """def accept(offset):
    if not box or offset != box[-1]:
        box.append(offset)""",
    """def accept(offset):
    return offset not in box""",
    """def accept(offset):
    if len(box) < 12:
        box.append(offset)""",
]
