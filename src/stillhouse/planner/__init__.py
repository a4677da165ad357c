"""What distilling a task would cost and return, and whether it pays.

Give `plan` what is known and a source of chance; it answers with ranges, a verdict and its reason.
"""

from stillhouse.planner.bill import Bill
from stillhouse.planner.forecast import FanPoint, Figures, Outcome, Quantiles
from stillhouse.planner.inputs import (
    NOBODY,
    HeldOutCounts,
    People,
    PlanInputs,
    PriceOutlook,
    Serving,
    TeacherCost,
)
from stillhouse.planner.verdict import Plan, Verdict, plan
from stillhouse.planner.volume import Volume, observed_volume, stated_volume
from stillhouse.planner.wording import (
    count_text,
    days_text,
    money_text,
    per_thousand_text,
    percent_text,
)

__all__ = [
    "NOBODY",
    "Bill",
    "FanPoint",
    "Figures",
    "HeldOutCounts",
    "Outcome",
    "People",
    "Plan",
    "PlanInputs",
    "PriceOutlook",
    "Quantiles",
    "Serving",
    "TeacherCost",
    "Verdict",
    "Volume",
    "count_text",
    "days_text",
    "money_text",
    "observed_volume",
    "per_thousand_text",
    "percent_text",
    "plan",
    "stated_volume",
]
