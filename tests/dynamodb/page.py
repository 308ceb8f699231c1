"""docs/dynamodb.md tells the truth about itself: it has every operation that AWS's client knows, every parameter of those that dStore
answers, and each check that it names is there. Needs no server."""

import os
import re

import botocore.session

from checks import FOLDER, PAGE, check, operations_of_the_page, rows, run, text_of

MODEL = botocore.session.get_session().get_service_model("dynamodb")


def section(title):
    _, _, rest = PAGE.partition(f"\n### {title}\n")
    return rest.split("\n### ")[0].split("\n## ")[0]


@check
def every_operation_is_on_the_page():
    listed = operations_of_the_page()
    missing = [name for name in MODEL.operation_names if name not in listed]
    assert not missing, f"not on the page: {missing}"
    strange = [name for name in listed if name not in MODEL.operation_names]
    assert not strange, f"AWS has no such operations: {strange}"


@check
def every_parameter_of_an_answered_operation_is_on_the_page():
    listed = operations_of_the_page()
    missing = []
    for name, line in listed.items():
        if "| yes |" not in line:
            continue
        shape = MODEL.operation_model(name).input_shape
        known = rows(section(name))
        missing += [f"{name}.{member}" for member in (shape.members if shape else []) if member not in known]
        strange = [member for member in known if member not in shape.members] if shape else list(known)
        assert not strange, f"{name} has no such parameters: {strange}"
    assert not missing, f"not on the page: {missing}"


@check
def every_check_that_is_named_is_there():
    named = re.findall(r"\b([a-z_]+)\.([a-z_]+)\b(?=[^|]*\|$)", PAGE, re.MULTILINE)
    scripts = {name[:-3] for name in os.listdir(FOLDER) if name.endswith(".py")}
    named = [(script, name) for script, name in named if script in scripts]
    assert len(named) > 60, f"the page names {len(named)} checks only"
    missing = [f"{script}.{name}" for script, name in named if not re.search(rf"^def {name}\(", text_of(f"{script}.py"), re.MULTILINE)]
    assert not missing, f"no such checks: {missing}"


run()
