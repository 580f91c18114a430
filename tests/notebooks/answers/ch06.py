"""The batch that comes to three quarters of the best pace."""

RIGHT = [
    "def size(a, b): return 3 * a / b",
    "def size(a, b):\n    knee = a / b\n    return round(3 * knee)",
    "import math\nsize = lambda a, b: math.ceil(3 * a / b)",
    "def size(a, b): return int(3 * a // b)",
    "def size(a, b):\n    n = 1\n    while n / (a + b * n) < 0.75 / b:\n        n += 1\n    return n",
    "from fractions import Fraction\ndef size(a, b): return Fraction(3) * Fraction(a) / Fraction(b)",
]

WRONG = [
    "def size(a, b): return 1000",
    "def size(a, b): return 2000",
    "def size(a, b): return a / b",
    "def size(a, b): return 0.75 * a / b",
    "def size(a, b): return 4 * a / b",
    "def size(a, b): return 2 * a / b",
    "def size(a, b): return 3 * b / a",
    "def size(a, b): return 0.75 / b",
    "def size(a, b): return 3 * a",
    "def size(a, b): return 150",
    "def size(a, b): return 6000",
]
