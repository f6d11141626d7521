"""Names who proposed the point of a searched trial."""

from enum import StrEnum


class Proposer(StrEnum):
    """Who proposed the point of a searched trial; its value stands in the records.

    `TPE` and `SOBOL` are Optuna's. What the recorded curves propose is near their best, and is trained to its end. A
    person made a clone.
    """

    EVEN_DRAW = "even draw"
    TPE = "TPE"
    SOBOL = "Sobol"
    EARLIER_STUDY = "earlier study"
    RECORDED_CURVES = "recorded curves"
    STUDY_MODEL = "study model"
    PERSON = "a person"
