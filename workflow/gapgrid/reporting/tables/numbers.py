"""How numbers are written in tables: one decimal, a true minus, gaps always with their sign."""

from gapgrid.core.records import Row


def signed(value: float, sign: str = "") -> str:
    """Return a number with one decimal and a true minus; a zero has no sign."""
    rounded = round(value, 1)
    return f"{rounded:{sign}.1f}".replace("-", "−") if rounded else "0.0"


def per_cent(share: float) -> str:
    """Return a share in per cent."""
    return signed(100 * share)


def points(share: float) -> str:
    """Return a difference of shares in percentage points, always with its sign."""
    return signed(100 * share, "+")


def interval(row: Row, sign: str = "") -> str:
    """Return a row's interval, `low` and `high`, in per cent."""
    return f"[{signed(100 * row['low'], sign)}, {signed(100 * row['high'], sign)}]"


def billions(size: float) -> str:
    """Return a number of parameters, given in billions, with its unit."""
    for unit, scale in (("B", 1.0), ("M", 1e3), ("k", 1e6)):
        if size * scale >= 1:
            return f"{size * scale:.3g}{unit}"
    return f"{size * 1e9:.0f}"
