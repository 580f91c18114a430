"""What a chapter claims, checked where it claims it."""


def claim(words: str, holds: object) -> None:
    """Print the claim with a tick when it holds; raise AssertionError with the claim if not."""
    if not holds:
        raise AssertionError(words)
    print(f"✓ {words}")
