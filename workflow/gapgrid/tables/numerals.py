"""How numbers are written in tables: one decimal, a true minus, gaps always with their sign, sizes with their unit."""

from gapgrid.records import Row


def signed(value: float, sign: str = "") -> str:
    """One decimal, with a true minus; no sign before a zero."""
    rounded = round(value, 1)
    return f"{rounded:{sign}.1f}".replace("-", "−") if rounded else "0.0"


def per_cent(share: float) -> str:
    """A share in per cent."""
    return signed(100 * share)


def points(share: float) -> str:
    """A difference of shares in percentage points, always with its sign."""
    return signed(100 * share, "+")


def span(row: Row, sign: str = "") -> str:
    """An interval."""
    return f"[{signed(100 * row['low'], sign)}, {signed(100 * row['high'], sign)}]"


def billions(size: float) -> str:
    """A number of parameters, given in billions."""
    for unit, scale in (("B", 1.0), ("M", 1e3), ("k", 1e6)):
        if size * scale >= 1:
            return f"{size * scale:.3g}{unit}"
    return f"{size * 1e9:.0f}"
