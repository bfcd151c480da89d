"""Docstrings as reStructuredText: their sections are plain text with `code` in it, and their examples doctests."""

import re

from sphinx.util import logging

import jsoftmax
from jsoftmax._core import check

SECTION = re.compile(r"(Args|Returns|Raises|Derivatives|References|Examples):(?: (.*))?$")
ERROR = re.compile(r"( *)(\w+(?:Error|Warning)): ")
MARKUP = re.compile(r"([*|]|(?<=\w)_(?!\w))")  # of reStructuredText, which is not meant


def plain(line):
    """`line` with nothing that is markup, but for what is between backticks."""
    parts = re.split(r"(`[^`]*`)", line)
    return "".join(part if i % 2 else MARKUP.sub(r"\\\1", part) for i, part in enumerate(parts))


def sections(lines):
    """(section, line): a heading on a line of its own, what follows indented below it."""
    section, inline = "", False
    for line in lines:
        heading = SECTION.match(line)
        if heading:
            section, inline = heading[1], heading[2] is not None
            yield section, f"{section}:"
            if inline:
                yield section, f"  {heading[2]}"
        else:
            yield section, f"  {line}" if inline and line.strip() else line


def process(app, what, name, obj, options, lines):
    """For Napoleon, which reads the arguments; errors become a list."""
    made, example = [], False
    for section, line in sections(list(lines)):
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if not example:
            line = plain(line)
        if section == "Raises" and line.startswith("  "):
            line = ERROR.sub(r"\1* ``\2``: ", line) if ERROR.match(line) else f"  {line}"
        made.append(line)
    lines[:] = made


def signature(app, what, name, obj, options, given, returned):
    """The default of β as the number that it is."""
    return given and given.replace("check.DEFAULT_BETA", str(check.DEFAULT_BETA)), returned


def check_coverage(app):
    """Every public name is in the reference, or the build fails."""
    page = (app.srcdir / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^   (\w+)$", page, re.MULTILINE))
    public = {name for name in vars(jsoftmax) if not name.startswith("_")}
    for name in sorted(public ^ listed):
        logging.getLogger(__name__).warning("api.md: %s is %s", name, "missing" if name in public else "not public")


def setup(app):
    app.connect("autodoc-process-docstring", process, priority=400)  # before Napoleon
    app.connect("autodoc-process-signature", signature)
    app.connect("builder-inited", check_coverage)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
