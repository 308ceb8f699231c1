"""Random operations against the server and against a model in memory: both have to give the same answers.

The model is a dictionary of items in DynamoDB's JSON and some rules, written from AWS's documentation. A step (model_run.py)
draws an operation with its condition, update or filter (model_draws.py); what is drawn knows both its text and what it means
(model_values.py). What the parameters before expressions can say, too, is now and then asked in both forms, whose answers have
to be the same. The first difference ends the run with the seed, the number of the step and the request. `DSTORE_SEED=7` repeats
a run, `DSTORE_STEPS` sets its length.

The first runs are on tables with keys of all types, the last is on a table with local indexes (model_indexed.py). Its items
have the indexes' attributes now and then, sometimes with values that no index can hold; after each write a part of an index, or
all of one, is read and compared.
"""

import json
import os
import time

from checks import check, run
from model_indexed import IndexedRun
from model_run import Run

SEED = int(os.environ.get("DSTORE_SEED") or time.time_ns() % 1_000_000)
STEPS = int(os.environ.get("DSTORE_STEPS") or 900)


def agree(steps, run_of_steps):
    """Makes the steps of a run."""
    table = run_of_steps.table
    print(f"# seed {SEED}, {steps} steps, {table}", flush=True)
    for number in range(steps):
        try:
            run_of_steps.step()
        except Exception as error:
            shown = json.dumps(run_of_steps.request, default=repr)
            raise AssertionError(f"DSTORE_SEED={SEED}, {table}, step {number}: {error!r}; asked {shown}") from error


@check
def the_model_and_the_server_agree():
    for id_type, sort_type in ["SN", "NB", "BS"]:
        agree(STEPS // 3, Run(SEED, id_type, sort_type))


@check
def the_model_and_the_server_agree_on_indexes():
    agree(STEPS, IndexedRun(SEED))


run()
