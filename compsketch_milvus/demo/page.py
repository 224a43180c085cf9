"""The demonstration's page: one HTML file beside its pictures, nothing fetched from elsewhere."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compsketch_milvus.demo import DemoQuery, DemoResult

__all__ = ["write_page"]

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>compsketch-milvus: sketches and what they found</title>
<style>
  :root {{ color-scheme: light; }}
  body {{ margin: 0 auto; max-width: 1240px; padding: 2rem 1.25rem 4rem; background: #fdfdfc; color: #1f2328;
         font: 16px/1.5 system-ui, sans-serif; }}
  h1 {{ font-size: 1.7rem; margin: 0 0 .25rem; }}
  h2 {{ font-size: 1.15rem; margin: 0; }}
  h2::first-letter {{ text-transform: uppercase; }}
  p {{ margin: .25rem 0 0; color: #59606a; max-width: 46rem; }}
  nav {{ margin: 1rem 0 0; display: flex; flex-wrap: wrap; gap: .4rem; }}
  nav a {{ padding: .15rem .7rem; border-radius: 1rem; background: #eeece7; color: inherit; text-decoration: none;
          font-size: .9rem; }}
  nav a:hover, nav a:focus {{ background: #dedbd3; }}
  section {{ margin-top: 2.5rem; scroll-margin-top: 1rem; }}
  section img {{ display: block; width: 100%; height: auto; margin-top: .6rem; border-radius: 8px; }}
</style>
</head>
<body>
<h1>Draw a layout, find the photos</h1>
<p>{photos} photos in Milvus Lite, encoder {encoder}. On the left of each sheet the sketch that was asked, on its
right the photos it found, best first, with the sketch's boxes laid over them and the cosine similarity below.</p>
<nav>{links}</nav>
{sections}
</body>
</html>
"""


def write_page(result: DemoResult, encoder: str) -> None:
    """Write ``result.page``; its pictures are named relative to it, so that the folder can be moved."""
    links = "".join(f'<a href="#{_anchor(query)}">{escape(query.title)}</a>' for query in result.queries)
    sections = "\n".join(_section(query, result.page.parent) for query in result.queries)
    page = _PAGE.format(photos=result.photos, encoder=escape(encoder), links=links, sections=sections)
    result.page.write_text(page, encoding="utf-8")


def _section(query: DemoQuery, folder: Path) -> str:
    picture = escape(query.sheet.relative_to(folder).as_posix(), quote=True)
    words = ", ".join(item.label or "an object" for item in query.sketch.objects)
    best = ", ".join(Path(hit.source).name for hit in query.hits[:3])
    return (
        f'<section id="{_anchor(query)}">\n<h2>{escape(query.title)}</h2>\n'
        f"<p>{escape(words)}; asked and answered in {query.seconds * 1000:.0f} ms</p>\n"
        f'<a href="{picture}"><img src="{picture}" alt="A sketch of {escape(words, quote=True)}; '
        f'its best photos are {escape(best, quote=True)}" loading="lazy"></a>\n</section>'
    )


def _anchor(query: DemoQuery) -> str:
    return query.title.replace(" ", "-")
