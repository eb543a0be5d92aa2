"""Pages from the templates in `templates/`: a text stays text, nothing is loaded or run.

Hidden characters of a text are written out, then it is escaped. A page's Content-Security-Policy
forbids every script and request unless the caller gives another policy.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gapgrid.core.text import capped, visible

STATIC_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(template: str, policy: str = STATIC_POLICY, **values: Any) -> str:
    """Return the text of a page; `values` are what its template names."""
    return _ENVIRONMENT.get_template(template).render(policy=Markup(policy), **values)


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_shown,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["capped"] = capped
