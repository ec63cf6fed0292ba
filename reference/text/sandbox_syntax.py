"""What the sandbox of chat templates changes in their syntax: prices where plain Python would run, and one more tag.

Jinja2 makes Python code of a template. Loops, comparisons, `~` and slices would run in it without a word to the
sandbox; the filters put in here, whose names no template can spell, tell it (sandbox.py).
"""

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.visitor import NodeTransformer

NODES_A_UNIT = 8  # of the syntax tree: a long loop body costs more than a short one
PAY, COMPARED, JOINED, SLICED = " pay", " compared", " joined", " sliced"


class Generation(Extension):
    """`{% generation %}` marks what the assistant says, for training; here it is what stands inside."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser):
        """The body in a scope of its own."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class Prices(NodeTransformer):
    """Puts prices into a template's syntax tree where its code would run past `reference.sandbox`."""

    def _body(self, node):
        """A body that may run many times begins by paying for its size."""
        size = sum(1 for part in node.body for _ in part.find_all(nodes.Node))
        price = _filtered(nodes.Const(1 + size // NODES_A_UNIT), PAY)
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(price))
        return node

    visit_Macro = visit_CallBlock = visit_Block = _body  # noqa: N815

    def visit_For(self, node):  # noqa: N802
        """A filtered loop also pays for what it leaves out."""
        self._body(node)
        node.test = node.test and nodes.And(_filtered(nodes.Const(1), PAY), node.test)
        return node

    def visit_Compare(self, node):  # noqa: N802
        """Equality and `in` may read all of both sides; a side written out in the template is as short as that."""
        self.generic_visit(node)
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        is_search = any(operand.op in ("in", "notin") for operand in node.ops)
        if len(node.ops) == 1 and any(map(_is_written_out, sides[1:] if is_search else sides)):
            return node
        node.expr = _filtered(node.expr, COMPARED)
        for operand in node.ops:
            operand.expr = _filtered(operand.expr, COMPARED)
        return node

    def visit_Concat(self, node):  # noqa: N802
        """`a ~ b`."""
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes), JOINED)

    def visit_Getitem(self, node):  # noqa: N802
        """`a[1:]` is a copy."""
        self.generic_visit(node)
        return _filtered(node, SLICED) if isinstance(node.arg, nodes.Slice) else node


def _filtered(node, name: str):
    return nodes.Filter(node, name, [], [], None, None)


def _is_written_out(node) -> bool:
    parts = node.items if isinstance(node, nodes.List | nodes.Tuple) else [node]
    return all(isinstance(part, nodes.Const) for part in parts)
