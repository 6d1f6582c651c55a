"""Every reason that a condition can have stands in docs/status.md, and no other: read from the code itself."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = ROOT / "operator" / "ada_operator"
# Which argument of which call is a reason.
POSITIONS = {"Failure": 0, "Trouble": 0, "Step": 1, "put": 2, "_refused": 0, "with_condition": 3}
NEVER_FAIL = {"BoundsChanged", "NodeLost"}  # they make a new group, and use up no budget
CAMEL_CASE = re.compile(r"(?:[A-Z][a-z]+)+")
ROW = re.compile(r"^\|[^|]*\|\s*(?:True|False|Unknown): ([^|]+)\|", re.MULTILINE)
UNTRUE = re.compile(r"the reasons of conditions that do not hold are ([A-Za-z, ]+)\)")


def texts(node: ast.expr) -> set[str]:
    """Return the reasons that an expression can be: constants, and both sides of a choice."""
    match node:
        case ast.Constant(str(text)) if CAMEL_CASE.fullmatch(text):
            return {text}
        case ast.IfExp(body=first, orelse=second):
            return texts(first) | texts(second)
    return set()


def reasons_in(tree: ast.AST) -> set[str]:
    """Return the reasons that a module gives."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(name), args=arguments) if len(arguments) > POSITIONS.get(name, 99):
                found |= texts(arguments[POSITIONS[name]])
            case ast.Return(ast.Tuple([first, _])) | ast.Assign(value=ast.Tuple([first, _])):
                found |= texts(first)  # reason and message of what is degraded
            case ast.Assign([ast.Name("Reason")], ast.Subscript(slice=ast.Tuple(choices))):
                found |= set().union(*map(texts, choices))  # of pods that will never start
    return found


def test_the_page_on_the_status_has_every_reason_there_is_and_no_other():
    given = set().union(*(reasons_in(ast.parse(file.read_text())) for file in CODE.glob("*.py")))
    page = (ROOT / "docs" / "status.md").read_text()
    conditions = page.split("## Conditions")[1].split("\n## ")[0]
    documented = {word for row in ROW.findall(conditions) for word in re.split(r",\s*", row.strip())}
    (untrue,) = UNTRUE.findall(page)
    documented |= set(re.split(r",\s*", untrue))
    assert given - NEVER_FAIL == documented
