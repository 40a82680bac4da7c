"""The wire contract of the Triton model `scorer`: tensor names, types and shapes, and what a row's status can be.

This is the one place that says it; a test holds every config.pbtxt against it.
"""

import re
from dataclasses import dataclass
from enum import Enum

MODEL = "scorer"
GRANT_HEADER = "scoremux-grant"
"""The header in which a front door says what a token may do."""

MAX_BATCH_ROWS = 512
"""Most rows one request may carry (Triton's `max_batch_size`)."""

MAX_TEXT_BYTES = 1 << 16
"""Longest UTF-8 text that is tokenised, in bytes; a longer one gets `TEXT_TOO_LONG`."""

TASK_ID_PATTERN = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
DIGEST_PATTERN = "[0-9a-f]{64}"
TASK_PATTERN = re.compile(f"({TASK_ID_PATTERN})(?:@({DIGEST_PATTERN}))?")
"""What TASK may be: a task id, or ``id@digest``."""

TOTAL = "total"
"""What follows an item's id where a row asks for the total of its traits: ``essay-1.total``."""

VARIABLE = -1


@dataclass(frozen=True)
class TensorSpec:
    """One tensor without its batch dimension. `datatype` is KServe v2's name of the type."""

    name: str
    datatype: str
    shape: tuple[int, ...] = (1,)


TEXT = TensorSpec("TEXT", "BYTES")
TASK = TensorSpec("TASK", "BYTES")
INPUTS = (TEXT, TASK)

STATUS = TensorSpec("STATUS", "BYTES")
LEVEL = TensorSpec("LEVEL", "INT32")
SCORE = TensorSpec("SCORE", "FP32")
PROBABILITIES = TensorSpec("PROBABILITIES", "FP32", (VARIABLE,))
VERSION = TensorSpec("VERSION", "BYTES")
TOKENS = TensorSpec("TOKENS", "INT32")
TRUNCATED = TensorSpec("TRUNCATED", "BOOL")
CONFIDENCE = TensorSpec("CONFIDENCE", "FP32")
CONDITION = TensorSpec("CONDITION", "BYTES")
ROUTE = TensorSpec("ROUTE", "BYTES")
LEVEL_RANGE = TensorSpec("LEVEL_RANGE", "INT32", (2,))
"""Lowest and highest level."""

ARITHMETIC = TensorSpec("ARITHMETIC", "BYTES")
"""What computed the row, such as ``x86-f32``; empty if nothing did."""

FEEDBACK = TensorSpec("FEEDBACK", "BYTES")
"""The version's text about the level for the pupil; empty if it has none."""

MOST_FEEDBACK_BYTES = 4096

CONDITION_CODES = {
    "B": "Blank",
    "I": "Insufficient",
    "C": "Copied",
    "L": "Other language",
    "U": "Uninterpretable",
    "R": "Refusal",
    "H": "Request for help",
    "P": "Profanity",
    "A": "Addressed to the scorer",
}
"""Codes of conditions, which CONDITION may have and a rater may give instead of a level."""

DECIDED = (CONFIDENCE, CONDITION, ROUTE, LEVEL_RANGE)
OUTPUTS = (STATUS, LEVEL, SCORE, PROBABILITIES, VERSION, TOKENS, TRUNCATED, *DECIDED, ARITHMETIC, FEEDBACK)

# No output holds NaN or infinity, which JSON does not have.
NO_LEVEL = -1
NO_SCORE = -3.4028234663852886e38
"""SCORE of a row without one: the lowest float32, which cannot be mistaken for points."""

NO_CONFIDENCE = -1.0
NO_RANGE = (-1, -1)
"""LEVEL_RANGE of a row that has none."""

MOST_LEVELS = 10_000
"""A LEVEL is below this, however a task scores."""

LEAST_PROBABILITY = 1.1754943508222875e-38
"""PROBABILITIES of a task's own levels are no lower (the least normal float32): 0 stands beyond its levels."""

EMBEDDING = TensorSpec("EMBEDDING", "FP32", (VARIABLE,))
TASKS = TensorSpec("TASKS", "BYTES")
"""The live tasks that the request's token may score, in its first row: a JSON array of objects with `id`, `version` and
`levels` (null where the version cannot be read). Where it is the only output asked for, the rows are not scored."""

ON_REQUEST = (EMBEDDING, TASKS)
"""Computed only if the request names them; empty in the answer to one that asks for all outputs, or names none."""


def outputs(embeddings: bool) -> tuple[TensorSpec, ...]:
    """Return the outputs that a request names."""
    return (*OUTPUTS, EMBEDDING) if embeddings else OUTPUTS


class Status(str, Enum):
    """Why a row has a score (`OK`) or has none."""

    OK = "OK"
    UNKNOWN_TASK = "UNKNOWN_TASK"
    """No live task has this id, or no package of the pinned digest is in the store."""
    TASK_UNAVAILABLE = "TASK_UNAVAILABLE"
    """The task is live, but no version of it can be loaded now; the server's log says why."""
    INVALID_TASK = "INVALID_TASK"
    """TASK is not of the form `id` or `id@digest` (see `TASK_PATTERN`)."""
    FORBIDDEN_TASK = "FORBIDDEN_TASK"
    """The token that the request came with may not score this task, whether there is one or not."""
    HAS_TRAITS = "HAS_TRAITS"
    """The task is an item with several traits; name one of them, such as ``essay-1.grammar``."""
    INVALID_TEXT = "INVALID_TEXT"
    """TEXT is not UTF-8."""
    TEXT_TOO_LONG = "TEXT_TOO_LONG"
    """TEXT has more than `MAX_TEXT_BYTES` bytes."""
    CONDITION = "CONDITION"
    """The response cannot be scored; CONDITION has the code, as the task's policy decides."""
    NOT_FINITE = "NOT_FINITE"
    """The task's adapter gave NaN or infinite logits for this text."""
    SERVER_DIED = "SERVER_DIED"
    """This row has killed the server before, so it is not scored again."""

    def __str__(self) -> str:
        return self.value


# A person can grade what the machine could not score, but not an answer to a task that does not exist.
NOBODY_CAN = (Status.UNKNOWN_TASK, Status.INVALID_TASK, Status.INVALID_TEXT, Status.FORBIDDEN_TASK, Status.HAS_TRAITS)
"""Statuses of rows that a person cannot grade either."""

MACHINE = "machine"
"""ROUTE of a row that the machine has decided: its score stands, or its condition code."""

HUMAN = "human:"
"""How the ROUTE of a row that goes to people begins; a reason follows."""


class Reason(str, Enum):
    """Why a row goes to people."""

    NO_SCORE = "NO_SCORE"
    """It has no score, and a person can give one; STATUS says why."""
    CONDITION = "CONDITION"
    """It has a condition code that the policy wants people to look at."""
    UNCALIBRATED = "UNCALIBRATED"
    """Its task has no calibration, and the server's profile does not leave such rows to the machine."""
    NEW_TASK = "NEW_TASK"
    """Its task has too few labelled rows yet."""
    TRUNCATED = "TRUNCATED"
    """The model did not see all of it."""
    UNUSUAL = "UNUSUAL"
    """It is unlike the responses that the task was calibrated with."""
    LOW_CONFIDENCE = "LOW_CONFIDENCE"
    """Its confidence is below the policy's threshold."""
    HELD = "HELD"
    """Its task is on hold (`scoremux tasks hold`): the machine would keep it otherwise."""

    @property
    def route(self) -> str:
        """The value of ROUTE, such as ``human:LOW_CONFIDENCE``."""
        return HUMAN + self.value


def route_without_score(status: Status) -> str:
    """Return ROUTE of a row without a score: to people, or empty if a person cannot grade it either."""
    if status is Status.CONDITION:
        return MACHINE
    return "" if status in NOBODY_CAN else Reason.NO_SCORE.route


DEADLINE_MS = "deadline_ms"
"""The request parameter with the milliseconds after which the answer is of no use."""

BATCH = "batch"
"""The request parameter that is true where a request belongs to a batch job: others pass it."""


def parameters(timeout_s: float | None, batch: bool = False) -> dict[str, int | bool]:
    """Return the parameters of a request, given how long its sender waits (None: for ever)."""
    deadline: dict[str, int | bool] = {} if timeout_s is None else {DEADLINE_MS: max(1, round(timeout_s * 1000))}
    return {**deadline, BATCH: True} if batch else deadline
