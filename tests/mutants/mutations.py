"""Small faults that can be put into a source file: each changes one expression or statement, and keeps the lines."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

COMPARED = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
COMBINED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}


class Mutation(NamedTuple):
    """Where a source is to be changed, and into what; ``start`` and ``end`` are places in the bytes of the file."""

    line: int
    start: int
    end: int
    text: str

    def apply(self, source: str) -> str:
        data = source.encode()
        replaced = data[self.start : self.end]
        # As many lines as before, so that those of other tools still hold.
        return (data[: self.start] + self.text.encode() + b"\\\n" * replaced.count(b"\n") + data[self.end :]).decode()


def of_source(source: str) -> list[Mutation]:
    """Every mutation of a file, in the order of its places."""
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node, new in _changes(ast.parse(source)):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        text = ast.unparse(ast.fix_missing_locations(new))
        is_statement = isinstance(node, ast.stmt)
        mutation = Mutation(node.lineno, start, end, text if is_statement or "\n" in text else f"({text})")
        try:
            ast.parse(mutation.apply(source))
        except SyntaxError:  # a place where no parentheses may stand
            continue
        found.append(mutation)
    return sorted(set(found), key=lambda mutation: (mutation.start, mutation.end, mutation.text))


def _changes(tree: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Nodes and what takes their place; nothing in annotations, docstrings, texts, imports and ``__all__``."""
    yield from _of_node(tree)
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "type_params") or isinstance(tree, (ast.JoinedStr, ast.Import)):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_left_alone(child):
                yield from _changes(child)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring, or the ... of a protocol
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    # What an error says is for the tests of its text; whether it is raised is mutated.
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.Raise))


def _of_node(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    match node:
        case ast.Compare(left, [operator], comparators) if type(operator) in COMPARED:
            yield node, ast.Compare(left, [COMPARED[type(operator)]()], comparators)
        case ast.BoolOp(operator, values):
            yield node, ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
        case ast.UnaryOp(ast.Not() | ast.USub() | ast.Invert(), operand):
            yield node, operand
        case ast.BinOp(left, operator, right) if type(operator) in COMBINED and not _has_text(left, right):
            yield node, ast.BinOp(left, COMBINED[type(operator)](), right)
        case ast.AugAssign(target, operator, value) if type(operator) in COMBINED and not _has_text(value):
            yield node, ast.AugAssign(target, COMBINED[type(operator)](), value)
        case ast.Constant(bool() as value):
            yield node, ast.Constant(not value)
        case ast.Constant(int() as value):
            yield node, ast.Constant(value + 1)
        case ast.Constant(float() as value):
            yield node, ast.Constant(2 * value if value else 1.0)
        case ast.IfExp(test, body, orelse):
            yield node, ast.IfExp(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.If(test) | ast.While(test):
            yield test, ast.UnaryOp(ast.Not(), test)
        case ast.Return(ast.expr() as value) if not isinstance(value, ast.Constant):
            yield node, ast.Return(ast.Constant(None))
        case ast.Expr(ast.Call()):
            yield node, ast.Pass()
        case ast.Call(function, arguments, [_, *_] as keywords):
            for i, keyword in enumerate(keywords):
                if keyword.arg is not None:
                    yield node, ast.Call(function, arguments, keywords[:i] + keywords[i + 1 :])


def _has_text(*nodes: ast.AST) -> bool:
    return any(
        isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        for node in nodes
    )
