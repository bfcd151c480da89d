"""A link whose text is the name of a file, as one reads it in the repository, has the title of the page on the site."""

import pathlib
import posixpath

from docutils import nodes


def name_pages(app, doctree, docname):
    for link in doctree.findall(nodes.reference):
        text = link.astext()
        page = posixpath.normpath(posixpath.join(posixpath.dirname(docname), pathlib.PurePosixPath(text).stem))
        if text.endswith(".md") and page in app.env.titles:
            link.children = [nodes.inline("", app.env.titles[page].astext())]


def setup(app):
    app.connect("doctree-resolved", name_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
