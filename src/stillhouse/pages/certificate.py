"""The certificate and the refusal as cards: every number, and what it promises in plain words."""

from __future__ import annotations

from stillhouse.core.learning import Certificate, Refusal
from stillhouse.pages.blocks import bullets, facts, paragraph
from stillhouse.pages.markup import Markup, tag
from stillhouse.pages.numerals import count, share, target

_NOT_PROMISED = (
    "That the answers are right: it compares with the teacher, who may be wrong.",
    "Anything about single labels, customers or languages: it holds for all accepted answers "
    "together.",
    "Anything about traffic that differs from the calibration rows: when the world or the teacher "
    "changes, it is void.",
)


def certificate_card(certificate: Certificate) -> Markup:
    """Show all that was proven about a student, and on which rows."""
    wanted, sure = target(certificate.max_risk), target(certificate.confidence)
    system = share(certificate.accept_rate * certificate.max_risk)
    promised = (
        f"Of the answers that the student gives by itself, at most {wanted} differ from what the "
        f"teacher would have said. At this accept rate that is at most {system} of all answers: "
        "the teacher gives the others.",
        f"This holds with {sure} confidence over the draw of the calibration rows, however often "
        "one looks, for traffic like those rows.",
    )
    return tag(
        "div",
        tag("h3", "Certificate"),
        paragraph(
            f"The student may answer {share(certificate.accept_rate)} of the requests.",
            tone="claim",
        ),
        facts(_numbers(certificate)),
        tag("h4", "It promises"),
        bullets(promised),
        tag("h4", "It does not promise"),
        bullets(_NOT_PROMISED),
        class_="card",
    )


def _numbers(certificate: Certificate) -> list[tuple[str, str]]:
    accepted = certificate.n_accepted
    risk = certificate.n_disagreements / accepted if accepted else None
    return [
        ("Calibration rows", count(certificate.n_calibration)),
        ("Accepted of them", f"{count(accepted)} ({share(certificate.accept_rate)})"),
        ("Disagreements", f"{count(certificate.n_disagreements)} ({share(risk)} of accepted)"),
        ("Score threshold", f"{certificate.threshold:.4g}"),
        ("Wanted risk", f"at most {target(certificate.max_risk)}"),
        ("Confidence", target(certificate.confidence)),
        ("Error budget spent", f"{certificate.delta_spent:.3g}"),
        ("Version", str(certificate.version)),
        ("Method", certificate.method),
        ("Student", tag("code", certificate.student)),
        ("Dataset", tag("code", certificate.dataset)),
    ]


def refusal_card(refusal: Refusal) -> Markup:
    """Say that nothing may be promised, and why."""
    reason = refusal.reason.value.replace("_", " ")
    figures = [(name.replace("_", " "), f"{value:.4g}") for name, value in refusal.figures.items()]
    return tag(
        "div",
        tag("h3", f"Refused: {reason}"),
        paragraph(refusal.sentence, tone="claim"),
        facts(figures) if figures else "",
        paragraph("The teacher keeps answering every request of this task.", tone="small"),
        class_="card refused",
    )
