"""The mutants of a module: Cosmic Ray's mutations of its source, those left out that change no result."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

__all__ = ["Mutant", "mutants_of"]

OPERATORS = (
    *("AddNot", "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue"),
    *("ReplaceComparisonOperator_Eq_NotEq", "ReplaceComparisonOperator_NotEq_Eq"),
    *("ReplaceComparisonOperator_Lt_LtE", "ReplaceComparisonOperator_Lt_GtE"),
    *("ReplaceComparisonOperator_LtE_Lt", "ReplaceComparisonOperator_LtE_Gt"),
    *("ReplaceComparisonOperator_Gt_GtE", "ReplaceComparisonOperator_Gt_LtE"),
    *("ReplaceComparisonOperator_GtE_Gt", "ReplaceComparisonOperator_GtE_Lt"),
    *("ReplaceComparisonOperator_Is_IsNot", "ReplaceComparisonOperator_IsNot_Is"),
    *("ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add", "ReplaceBinaryOperator_Mul_Add"),
    *("ReplaceBinaryOperator_FloorDiv_Mul", "ReplaceBinaryOperator_Div_Mul", "ReplaceBinaryOperator_Mod_Add"),
    *(
        "ReplaceBinaryOperator_Pow_Mul",
        "ReplaceBinaryOperator_BitOr_BitAnd",
        "ReplaceBinaryOperator_BitAnd_BitOr",
    ),
    *("ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_Delete_USub"),
    *("NumberReplacer", "ExceptionReplacer", "RemoveDecorator", "ZeroIterationForLoop"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
)
"""One replacement for each operator, and both sides of each bound; Cosmic Ray has all pairs of them."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module with one change."""

    operator: str
    line_number: int
    line: str
    becomes: str
    source: str


def mutants_of(source: str) -> Iterator[Mutant]:
    """Make all that differ from the module in what it does, and not only in what it says about types."""
    silent = set(silent_places(ast.parse(source)))
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        for occurrence, (line_number, column) in enumerate(places(source, operator)):
            if (line_number, column) in silent:
                continue
            mutated = mutate_code(source, operator, occurrence)
            if mutated is None or not differs(mutated, source):
                continue
            before, after = source.splitlines(), mutated.splitlines()
            at = next((k for k, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), 0)
            becomes = after[at].strip() if len(after) == len(before) else ""
            yield Mutant(name, line_number, before[at].strip(), becomes, mutated)


def differs(mutated: str, source: str) -> bool:
    """Whether a mutant is a module at all, and another: the star between arguments is no product."""
    try:
        return ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(source))
    except SyntaxError:
        return False


def places(source: str, operator: object) -> list[tuple[int, int]]:
    """Where an operator can change a module: lines from 1 on, columns from 0 on."""
    found: list[tuple[int, int]] = []

    class Finder(Visitor):
        def visit(self, node: object) -> object:
            found.extend(start for start, _ in operator.mutation_positions(node))
            return node

    Finder().walk(get_ast(source))
    return found


def silent_places(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """Places of annotations, and of what a decorator is given: ``frozen`` and ``slots`` change no result."""
    for node in ast.walk(tree):
        annotations = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        decorators = [
            argument
            for decorator in getattr(node, "decorator_list", ())
            if isinstance(decorator, ast.Call)
            for argument in decorator.keywords
        ]
        for part in (*annotations, *decorators):
            if isinstance(part, ast.AST):
                lines = range(part.lineno, part.end_lineno + 1)
                yield from (
                    (line, column) for line in lines for column in range(120) if within(part, line, column)
                )


def within(node: ast.AST, line: int, column: int) -> bool:
    """Whether a place lies in a node."""
    return (node.lineno, node.col_offset) <= (line, column) < (node.end_lineno, node.end_col_offset)
