"""What the report of a search over arms has of its own: the verdict, and the jobs."""

from __future__ import annotations

from html import escape

from tuning.report.board import text
from tuning.report.findings import Findings
from tuning.report.page import table
from tuning.spec.arms import Arms
from tuning.studies.verdict import COLUMNS, judge

_KINDS = {"arm": "", "against": "", "verdict": ""}


def verdict(findings: Findings) -> str:
    """The verdict as HTML."""
    assert findings.spec.arms is not None
    found = judge(findings.spec.arms, findings.trials)
    columns = [(name, _KINDS.get(name, "number")) for name in COLUMNS]
    parts = ["<h2>Verdict</h2>", f"<p><b>{escape(found.headline)}</b></p>"]
    parts.append(table(columns, ((None, row.cells) for row in found.rows)))
    parts += [f"<p>{escape(note[0].upper() + note[1:])}.</p>" for note in found.notes]
    parts.append(
        '<p class="quiet">Accuracy on the test split: mean and standard deviation over seeds. Arms are paired by seed; '
        "differences are judged together by paired t-tests with Holm's correction, so that in 95 of 100 such tables "
        "of equal arms nothing is called different. Seeds needed: pairs at which such a difference would be seen with "
        "80 % power.</p>"
    )
    return "\n".join(parts)


def jobs(arms: Arms) -> str:
    """What each arm changes."""
    rows = [
        (None, [arm, ", ".join(f"{name} {text(value)}" for name, value in changes.items()) or "the job as it is"])
        for arm, changes in arms.jobs.items()
    ]
    return table([("arm", ""), ("changes", "long")], rows)
