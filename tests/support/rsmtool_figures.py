"""Random data sets, and RSMTool's figures for them: what `tests/unit/assess/test_statistics.py` compares ours with.

python -m venv VENV && VENV/bin/pip install rsmtool==12.0.0
VENV/bin/python tests/support/rsmtool_figures.py > tests/unit/assess/rsmtool_figures.jsonl
"""

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
    """Levels of a human and a machine, levels of a second human (NaN: none), and groups.

    kept: 1 where the machine's level is the score of record, 0 where the human's is; length: of each text.
    """

    human: list[float]
    machine: list[float]
    second: list[float]
    group: list[str]
    kept: list[float]
    length: list[float]


def data_set(number: int) -> DataSet:
    """Return data set `number`, of one of 20 kinds.

    Ties, constants, missing second scores, groups of one row, sets of one row, half points, levels below 0, rows that
    are all the machine's or all people's, texts of one length.
    """
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
    for _ in machine:  # the data sets are those of before, which had a column more
        chance.gauss(0, 0.4)
    missing = chance.choice([0.0, 0.5, 0.9, 1.0])
    second = [math.nan if chance.random() < missing else level for level in second]
    if number % 10 == 7:
        second = list(human)
    group = ["alone", *(chance.choice("abc") for _ in range(rows - 1))]
    if number % 20 == 11:
        human, second = ([level + chance.choice([0.0, 0.0, 0.5]) for level in one] for one in (human, second))
    if number % 20 == 14:
        human, second = ([level - 2 for level in one] for one in (human, second))
    share = {2: 0.0, 8: 1.0}.get(number % 20, 0.6)
    kept = [float(chance.random() < share) for _ in range(rows)]
    length = [7.0 if number % 20 == 9 else float(chance.randint(1, 300) * (1 + level)) for level in machine]
    return DataSet(human, machine, second, group, kept, length)


def figures(data: DataSet) -> dict[str, Any]:
    """Return RSMTool's figures under our names; None where it has none."""
    import numpy as np
    import pandas as pd
    from rsmtool.analyzer import Analyzer
    from rsmtool.fairness_utils import get_fairness_analyses
    from rsmtool.utils.prmse import mse_true, prmse_true, variance_of_errors
    from scipy.stats import pearsonr

    human, machine = pd.Series(data.human), pd.Series(data.machine)
    levels = Analyzer.metrics_helper(human, machine)
    out = {"n": levels["N"], "exact": levels["exact_agr"] / 100, "adjacent": levels["adj_agr"] / 100}
    out |= {"qwk": levels["wtkappa"], "r": levels["corr"], "smd": levels["SMD"]}
    out |= {"sd_ratio": levels["sys_sd"] / levels["h_sd"] if levels["h_sd"] else math.nan}
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
        ratings = np.column_stack([data.human, data.second])
        out["prmse"] = prmse_true(machine.to_numpy(), ratings)
        out["sem"] = math.sqrt(variance_of_errors(ratings))
        squared = mse_true(machine.to_numpy(), ratings)
        out["machine_sem"] = math.nan if squared is None else math.sqrt(max(squared, 0))
    out |= routed(data)
    of_length = []
    for level in (machine, human):
        constant = len(set(level)) == 1 or len(set(data.length)) == 1
        of_length.append(math.nan if constant else float(pearsonr(data.length, level)[0]))
    out |= {"length_r": of_length[0], "length_gap": of_length[0] - of_length[1]}
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


def routed(data: DataSet) -> dict[str, Any]:
    """Return RSMTool's figures of the machine's share and of the score of record.

    Of the rows of people, those with two readings stand for all: each row is repeated as often as its weight says.
    """
    import pandas as pd
    from rsmtool.analyzer import Analyzer

    rows = [*zip(data.kept, data.human, data.machine, data.second, strict=True)]
    kept = [(human, machine) for is_kept, human, machine, _ in rows if is_kept]
    read = [(second, human) for is_kept, human, _, second in rows if not is_kept and not math.isnan(second)]
    out: dict[str, Any] = {"people": 1 - len(kept) / len(rows)}
    routed_rows = len(rows) - len(kept)
    record = kept * max(len(read), 1) + read * routed_rows if read or not routed_rows else []
    for name, pairs, weight in (("kept", kept, len(kept)), ("record", record, len(rows))):
        if not pairs:
            continue
        human, level = (pd.Series(values) for values in zip(*pairs, strict=True))
        figures_of = Analyzer.metrics_helper(human, level)
        out |= {f"{name}_exact": figures_of["exact_agr"] / 100, f"{name}_adjacent": figures_of["adj_agr"] / 100}
        # RSMTool divides by one row less than there are; here some are there several times.
        n = len(pairs)
        deviation = human.std(ddof=0) * math.sqrt(weight / (weight - 1)) if weight > 1 else 0.0
        out[f"{name}_smd"] = (level.mean() - human.mean()) / deviation if n > 1 and deviation else math.nan
        out[f"{name}_qwk"] = figures_of["wtkappa"]
    return out


def main() -> None:
    """Print a line of JSON for each data set."""
    warnings.simplefilter("ignore")
    for number in range(DATA_SETS):
        sys.stdout.write(json.dumps(figures(data_set(number))) + "\n")


if __name__ == "__main__":
    main()
