"""Random data sets, and RSMTool's figures for them: what `tests/unit/assess/test_statistics.py` compares ours with.

python -m venv VENV && VENV/bin/pip install rsmtool==12.0.0
VENV/bin/python tests/support/rsmtool_figures.py > tests/unit/assess/rsmtool_figures.jsonl
"""

from __future__ import annotations

import json
import math
import random
import sys
import warnings
from dataclasses import dataclass
from typing import Any

DATA_SETS = 200


@dataclass(frozen=True)
class DataSet:
    """Levels of a human and a machine, expected levels, levels of a second human (NaN: none), and groups."""

    human: list[float]
    machine: list[float]
    expected: list[float]
    second: list[float]
    group: list[str]


def data_set(number: int) -> DataSet:
    """Return data set `number`: ties, constants, missing second scores, groups of one row, sets of one row."""
    chance = random.Random(number)
    levels, rows = chance.choice([2, 3, 4, 5, 5, 6, 11]), chance.choice([1, 2, 3, 5, 10, 14, 30, 60, 100])
    human = [float(chance.randrange(levels)) for _ in range(rows)]
    close = chance.random()

    def again(level: float) -> float:
        return level if chance.random() < close else float(chance.randrange(levels))

    machine, second = [again(level) for level in human], [again(level) for level in human]
    if number % 10 == 3:
        human = [human[0]] * rows
    if number % 10 == 5:
        machine = [machine[0]] * rows
    if number % 20 == 3:
        machine = list(human)
    expected = [min(levels - 1.0, max(0.0, level + chance.gauss(0, 0.4))) for level in machine]
    if number % 10 == 5:
        expected = [0.3] * rows
    missing = chance.choice([0.0, 0.5, 0.9, 1.0])
    second = [math.nan if chance.random() < missing else level for level in second]
    if number % 10 == 7:
        second = list(human)
    group = ["alone", *(chance.choice("abc") for _ in range(rows - 1))]
    return DataSet(human, machine, expected, second, group)


def figures(data: DataSet) -> dict[str, Any]:
    """Return RSMTool's figures under our names; None where it has none."""
    import numpy as np
    import pandas as pd
    from rsmtool.analyzer import Analyzer
    from rsmtool.fairness_utils import get_fairness_analyses
    from rsmtool.utils.prmse import mse_true, prmse_true

    human, machine, expected = (pd.Series(values) for values in (data.human, data.machine, data.expected))
    levels, means = Analyzer.metrics_helper(human, machine), Analyzer.metrics_helper(human, expected)
    out = {"n": levels["N"], "exact": levels["exact_agr"] / 100, "adjacent": levels["adj_agr"] / 100}
    out |= {"qwk": levels["wtkappa"], "r": levels["corr"], "smd": levels["SMD"]}
    out |= {"qwk_expected": means["wtkappa"], "r_expected": means["corr"]}
    out |= {"sd_ratio": levels["sys_sd"] / levels["h_sd"] if levels["h_sd"] else math.nan}
    # Where humans give one level, RSMTool's R² is 0 or 1; where both raters give the same one, its kappa is 1.
    one_level = human.nunique() == 1
    out |= {"rmse": levels["RMSE"], "r2": math.nan if one_level else levels["R2"]}
    out |= {"kappa": math.nan if one_level and machine.equals(human) else levels["kappa"]}
    second = pd.Series(data.second)
    both = second.notnull()
    if both.any():
        humans = Analyzer.metrics_helper(human[both], second[both], smd_method="pooled")
        out |= {"human_exact": humans["exact_agr"] / 100, "human_adjacent": humans["adj_agr"] / 100}
        out |= {"human_qwk": humans["wtkappa"], "human_r": humans["corr"], "human_smd": humans["SMD"]}
        same_rows = Analyzer.metrics_helper(human[both], machine[both])
        for ours, theirs, unit in (("exact", "exact_agr", 100), ("qwk", "wtkappa", 1), ("r", "corr", 1)):
            out[f"double_{ours}"] = same_rows[theirs] / unit
            out[f"degradation_{ours}"] = (same_rows[theirs] - humans[theirs]) / unit
        out["r_disattenuated"] = levels["corr"] / math.sqrt(humans["corr"]) if humans["corr"] > 0 else math.nan
        ratings = np.column_stack([data.human, data.second])
        out |= {"prmse": prmse_true(machine.to_numpy(), ratings), "true_mse": mse_true(machine.to_numpy(), ratings)}
    if len(set(data.group)) > 1:
        frame = pd.DataFrame({"sc1": data.human, "machine": data.machine, "who": data.group})
        models = get_fairness_analyses(frame, "who", "machine")[1]["fairness_metrics_by_who"].loc["R2"]
        titles = {"osa": "accuracy", "osd": "difference"}
        out |= {name: float(models[f"Overall score {title}"]) for name, title in titles.items()}
        out["csd"] = float(models["Conditional score difference"])
    for name in sorted(set(data.group)):
        own = [place for place, group in enumerate(data.group) if group == name]
        whole = (human.std(), machine.std(), human.mean(), machine.mean())
        group = Analyzer.metrics_helper(human[own], machine[own], *whole, use_diff_std_means=True)
        out[f"dsm {name}"] = group["DSM"]
    finite = {name: value is not None and math.isfinite(value) for name, value in out.items()}
    return {name: float(value) if finite[name] else None for name, value in out.items()}


def main() -> None:
    """Print a line of JSON for each data set."""
    warnings.simplefilter("ignore")
    for number in range(DATA_SETS):
        sys.stdout.write(json.dumps(figures(data_set(number))) + "\n")


if __name__ == "__main__":
    main()
