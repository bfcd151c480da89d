"""Tables in Markdown, as experiments print them and pages hold them."""


def rows_of(head, rows):
    """Lines of a table of strings."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def document(parts):
    """Lists of lines, with an empty line between them."""
    return "\n\n".join("\n".join(part) for part in parts)
